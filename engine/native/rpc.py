"""Makes the devices of RPC servers known to the library."""

import ctypes
from collections.abc import Sequence
from typing import Final

from engine.errors import RpcError
from engine.native import devices, library
from engine.native.rpc_probe import Endpoint, addresses, probe

_ADD_SERVER: Final = b"ggml_backend_rpc_add_server"


def connect(endpoints: Sequence[Endpoint]) -> None:
    """Probe the servers and make their devices known, in this order. Raises RpcError.

    What the library finds out later about a server ends the process: see ``engine.native.abort``.
    """
    lib = library.start()
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(procedure(_ADD_SERVER))
    seen: dict[tuple[str, int], Endpoint] = {}
    for endpoint in endpoints:
        other = seen.setdefault(addresses(endpoint)[0], endpoint)
        if other != endpoint:
            raise RpcError(f"RPC server {endpoint}: the same server as {other}")
    for endpoint in endpoints:
        probe(endpoint)
        registry = add(str(endpoint).encode())
        if not registry:
            raise RpcError(f"RPC server {endpoint}: it serves no device")
        library.ggml().register(registry)
    _check_count(lib.llama_max_devices())


def procedure(name: bytes) -> int:
    """The address of a function of the RPC backend. Raises RpcError in a build without it."""
    ggml = library.ggml()
    for index in range(ggml.reg_count()):
        registry = ggml.reg_get(index)
        if ggml.reg_name(registry) == devices.RPC.encode():
            address: int | None = ggml.reg_get_proc_address(registry, name)
            if address:
                return address
    raise RpcError("this build of llama.cpp has no RPC: build it with GGML_RPC=ON, as tools/install.py does")


def _check_count(most: int) -> None:
    ggml = library.ggml()
    cpu = 0
    count = sum(ggml.dev_type(ggml.dev_get(index)) != cpu for index in range(ggml.dev_count()))
    if count > most:
        raise RpcError(f"{count} devices, those of RPC servers included: the library takes {most}")
