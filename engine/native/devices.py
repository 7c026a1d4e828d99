"""What the library can compute on, and which versions are at work."""

import ctypes
import enum
import importlib.metadata
import platform
from typing import Final

import attrs

from engine.native import library
from engine.native.ggml import Ggml

_MIB: Final = 1024 * 1024
RPC: Final = "RPC"  # the backend of other machines' devices


class DeviceType(enum.Enum):
    """ggml's device types."""

    CPU = 0
    GPU = 1
    IGPU = 2
    ACCELERATOR = 3
    META = 4


@attrs.frozen(kw_only=True)
class Device:
    """One device of the engine. Sizes in MiB; ``backend`` is the library that drives it, e.g. "CUDA", "RPC"."""

    name: str
    description: str
    backend: str
    type: DeviceType
    total_mib: int
    free_mib: int
    handle: int = attrs.field(repr=False)  # ggml_backend_dev_t


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def device_of(ggml: Ggml, handle: int) -> Device:
    """What a library says of the device at this address. Asks the server where it is a remote one."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=_text(ggml.dev_name(handle)),
        description=_text(ggml.dev_description(handle)),
        backend=_text(ggml.reg_name(ggml.dev_backend_reg(handle))),
        type=DeviceType(ggml.dev_type(handle)),
        total_mib=total.value // _MIB,
        free_mib=free.value // _MIB,
        handle=handle,
    )


def devices() -> list[Device]:
    """All devices of llama.cpp, the CPU included: first those of RPC servers, as models are split over them first."""
    library.start()
    return registered(library.ggml())


def registered(ggml: Ggml) -> list[Device]:
    """The devices in the registry of one library, in the same order."""
    found = [device_of(ggml, ggml.dev_get(index)) for index in range(ggml.dev_count())]
    return sorted(found, key=lambda device: device.backend != RPC)


def buffer_type(device: Device) -> tuple[str, int]:
    """Name and handle of the buffer type that a device computes from."""
    ggml = library.ggml()
    handle: int = ggml.dev_buffer_type(device.handle)
    return _text(ggml.buft_name(handle)), handle


def buffer_types() -> list[str]:
    """Names of the devices' buffer types, without repetition, in the order of the devices."""
    return list(dict.fromkeys(buffer_type(device)[0] for device in devices()))


def system_info() -> str:
    """The processor features and backends that the library was built with."""
    return _text(library.start().llama_print_system_info()).strip()


def versions() -> dict[str, str]:
    """Versions of Python and of the native packages by name; absent packages are left out."""
    found = {"Python": platform.python_version()}
    for name in (library.DISTRIBUTION, "stable-diffusion-cpp-python"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["llama.cpp"] = _text(library.load().llama_version())
    return found
