"""Which device the image library computes on: one of this machine's, or that of an RPC server.

The library has no parameter for it: it takes the first GPU of its registry, and to it the device of a server is one.
So the choice is made by what is in the registry, once a process: a registration cannot be taken back.
"""

import functools
import logging
import threading
from collections.abc import Sequence
from typing import Final

from engine.errors import RpcError
from engine.native import devices
from engine.native.devices import RPC, Device, DeviceType
from engine.native.ggml import Ggml
from engine.native.rpc import add_server, find_serve
from engine.native.rpc_probe import IMAGES, Endpoint, check_distinct, parse_endpoint, probe
from engine.native.sd import library

log: Final = logging.getLogger("engine.image")

NAME: Final = "stable-diffusion.cpp"
_HELD: Final = 64  # bytes
_lock: Final = threading.Lock()
_taken: list[Device] = []


def connect(endpoints: Sequence[Endpoint]) -> list[Device]:
    """Probe the servers; their devices, in this order. Nothing is computed on them yet. Raises RpcError.

    The connections end again: a server has time for one client, which may be a child that tries the model.
    """
    ggml = library.ggml()
    check_distinct(endpoints)
    found = []
    for endpoint in endpoints:
        probe(endpoint, protocol=IMAGES)
        registry = add_server(ggml, endpoint, NAME)
        handles = [ggml.reg_dev_get(registry, index) for index in range(ggml.reg_dev_count(registry))]
        found += [devices.device_of(ggml, handle) for handle in handles]
    return found


@functools.cache
def local_devices() -> tuple[Device, ...]:
    """This machine's devices, the CPU included, as they were before any was taken."""
    return tuple(devices.registered(library.ggml()))


def candidates(endpoints: Sequence[Endpoint]) -> list[Device]:
    """The devices that images can be computed on: first those of the servers, then this machine's GPUs.

    A processor's own graphics count only where there is no GPU. Raises RpcError.
    """
    remote, local = connect(endpoints), local_devices()
    gpus = [device for device in local if device.type is DeviceType.GPU]
    return [*remote, *(gpus or [device for device in local if device.type is DeviceType.IGPU])]


def chosen_device(servers: Sequence[str], number: int | None) -> Device | None:
    """The candidate of this number; None: the first one. None where it is left to the library. Raises RpcError."""
    if not servers and number is None:
        return None
    found = candidates([parse_endpoint(server) for server in servers])
    index = number or 0
    if index >= len(found):
        if index == 0:
            return None  # no server, no GPU: the processor
        raise RpcError(f"there is no device {index} for images: there are {len(found)}")
    return found[index]


def take(device: Device) -> None:
    """Have what is loaded from now on computed there. Raises RpcError.

    A remote one is connected to from here until the process ends, so that a server that goes away meanwhile is an
    abort of the library's with a message. (Without a connection it would dereference a null pointer.)
    """
    ggml = library.ggml()
    with _lock:
        if _taken:
            if _taken[0].handle != device.handle:
                raise RpcError(f"images are computed on {_taken[0].name} already, for as long as this process runs")
            return
        local_devices()
        if device.backend == RPC:
            _hold(ggml, device)
        _hide_gpus(ggml)
        ggml.device_register(device.handle)
        _taken.append(device)
    log.info("images are computed on %s (%s)", device.name, device.description)


def check_build() -> None:
    """Raise RpcError when the library was built without RPC."""
    serve_function()


def serve_function() -> int:
    """The address of the library's function that serves devices. Raises RpcError in a build without it."""
    return find_serve(library.ggml(), NAME)


def _hold(ggml: Ggml, device: Device) -> None:
    """Connect for good: the library's connection lives as long as somebody has memory on the other side."""
    endpoint = parse_endpoint(device.description)
    probe(endpoint, protocol=IMAGES)
    buffer_type = ggml.dev_buffer_type(device.handle)
    if not buffer_type:
        raise RpcError(f"RPC server {endpoint}: it has gone away")
    if not ggml.buft_alloc_buffer(buffer_type, _HELD):
        raise RpcError(f"RPC server {endpoint}: it has no memory left")


def _hide_gpus(ggml: Ggml) -> None:
    registries = {ggml.dev_backend_reg(ggml.dev_get(index)) for index in range(ggml.dev_count())}
    for registry in registries:
        handles = [ggml.reg_dev_get(registry, index) for index in range(ggml.reg_dev_count(registry))]
        if any(DeviceType(ggml.dev_type(handle)) in (DeviceType.GPU, DeviceType.IGPU) for handle in handles):
            ggml.unload(registry)
