"""Options about serving this machine's devices to others."""

from functools import partial
from typing import Final

from cli.kinds import FILE, Whole, text
from cli.option import Option, Section

_later = partial(Option, section=Section.RPC_SERVER, available=False)

RPC: Final = (
    _later(
        flags="--rpc-server-host",
        kind=text("an address"),
        metavar="ADDR",
        env="RPC_SERVER_HOST",
        default="0.0.0.0",  # noqa: S104  (the contract's default, shown in the help)
        help="address to listen on; the protocol has no authentication",
    ),
    _later(
        flags="--rpc-server-port",
        kind=Whole(minimum=0, maximum=65535),
        metavar="N",
        env="RPC_SERVER_PORT",
        default="0",
        help="serve devices on this port and nothing else; 0 = off",
    ),
    _later(
        flags="--rpc-server-main-gpu",
        kind=Whole(),
        metavar="N",
        default="0",
        help="device to serve; negative = the processor",
    ),
    _later(
        flags="--rpc-server-reserve-memory",
        kind=Whole(minimum=0),
        metavar="MIB",
        default="0",
        help="memory to keep back",
    ),
    _later(flags="--rpc-server-threads", kind=Whole(minimum=1), metavar="N", help="threads of the processor"),
    _later(flags="--rpc-server-cache", help="keep tensors in files"),
    _later(flags="--rpc-server-cache-dir", kind=FILE, metavar="DIR", help="where to keep them"),
)
