"""Makes the devices of RPC servers known to llama.cpp, and finds the functions of a library's RPC backend."""

import ctypes
from collections.abc import Sequence
from typing import Final

from engine.errors import RpcError
from engine.native import devices, library
from engine.native.ggml import Ggml
from engine.native.rpc_probe import Endpoint, check_distinct, probe

_ADD_SERVER: Final = b"ggml_backend_rpc_add_server"
_START_SERVER: Final = b"ggml_backend_rpc_start_server"
_LLAMA: Final = "llama.cpp"


def connect(endpoints: Sequence[Endpoint]) -> None:
    """Probe the servers and make their devices known, in this order. Raises RpcError.

    What the library finds out later about a server ends the process: see ``engine.native.abort``.
    """
    lib = library.start()
    check_distinct(endpoints)
    for endpoint in endpoints:
        probe(endpoint)
        library.ggml().register(add_server(library.ggml(), endpoint, _LLAMA))
    _check_count(lib.llama_max_devices())


def serve_function() -> int:
    """The address of llama.cpp's function that serves devices. Raises RpcError in a build without it."""
    library.start()
    return find_serve(library.ggml(), _LLAMA)


def add_server(ggml: Ggml, endpoint: Endpoint, name: str) -> int:
    """The handle of the registry of a server's devices, which the library ``name`` makes once. Raises RpcError."""
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(_procedure(ggml, _ADD_SERVER, name))
    registry: int | None = add(str(endpoint).encode())
    if not registry:
        raise RpcError(f"RPC server {endpoint}: it serves no device")
    return registry


def find_serve(ggml: Ggml, name: str) -> int:
    """The address of the function of the library ``name`` that serves devices. Raises RpcError in a build without."""
    return _procedure(ggml, _START_SERVER, name)


def _procedure(ggml: Ggml, function: bytes, name: str) -> int:
    for index in range(ggml.reg_count()):
        registry = ggml.reg_get(index)
        if ggml.reg_name(registry) == devices.RPC.encode():
            address: int | None = ggml.reg_get_proc_address(registry, function)
            if address:
                return address
    raise RpcError(f"this build of {name} has no RPC: build it with GGML_RPC=ON, as tools/install.py does")


def _check_count(most: int) -> None:
    ggml = library.ggml()
    cpu = 0
    count = sum(ggml.dev_type(ggml.dev_get(index)) != cpu for index in range(ggml.dev_count()))
    if count > most:
        raise RpcError(f"{count} devices, those of RPC servers included: the library takes {most}")
