"""Options about serving this machine's devices to others."""

from functools import partial
from typing import Final

from cli import placement_forms as placement
from cli.kinds import FILE, Form, Whole, text
from cli.option import Option, Section

_option = partial(Option, section=Section.RPC_SERVER)

RPC: Final = (
    _option(
        flags="--rpc-server-host",
        kind=text("an address"),
        metavar="ADDR",
        env="RPC_SERVER_HOST",
        setting="rpc_server.host",
        help="address to listen on; the protocol has no authentication: keep it in a network of your own",
    ),
    _option(
        flags="--rpc-server-port",
        kind=Whole(minimum=0, maximum=65535),
        metavar="N",
        env="RPC_SERVER_PORT",
        setting="rpc_server.port",
        help="serve devices on this port and nothing else, with --images to image models; 0 = off",
    ),
    _option(
        flags="--rpc-server-main-gpu",
        kind=Whole(),
        metavar="N",
        setting="rpc_server.main_gpu",
        help="device to serve, counted without the processor; negative = the processor, and 0 where there is no other",
    ),
    _option(
        flags="--rpc-server-reserve-memory",
        kind=Form(
            "0: the engine itself tells clients the free memory and knows no reserve; give this machine a smaller "
            "share by the client's --tensor-split",
            placement.no_reserve,
        ),
        metavar="MIB",
        default="0",
        help="memory to keep back; only 0, as the engine knows no reserve: use the client's --tensor-split",
    ),
    _option(
        flags="--rpc-server-threads",
        kind=Whole(minimum=1, maximum=512),
        metavar="N",
        setting="rpc_server.threads",
        default="physical cores",
        help="threads of the processor",
    ),
    _option(
        flags="--rpc-server-cache",
        setting="rpc_server.cache",
        help="keep tensors of more than 10 MiB in files, so that they cross the network once",
    ),
    _option(
        flags="--rpc-server-cache-dir",
        kind=FILE,
        metavar="DIR",
        setting="rpc_server.cache_dir",
        default="the user's cache directory",
        help="where to keep them; implies --rpc-server-cache",
    ),
)
