"""Which devices a model is spread over, and the buffer types that its tensors may be placed in."""

from collections.abc import Iterable, Sequence

from engine.native import devices
from engine.native.devices import Device, DeviceType
from engine.native.options import SplitMode


def spread_over(found: Iterable[Device], chosen: Sequence[str] | None) -> list[Device]:
    """The devices among ``found`` that share a model, in order; ``chosen`` None: those that the library would take.

    That is RPC servers first, then GPUs; processors' own graphics only where there is no GPU.
    """
    by_name = {device.name: device for device in found}
    if chosen is not None:
        return [by_name[name] for name in chosen if name in by_name]
    remote = [device for device in by_name.values() if device.backend == devices.RPC]
    local = [device for device in by_name.values() if device.backend != devices.RPC]
    gpus = [device for device in local if device.type is DeviceType.GPU]
    return [*remote, *(gpus or [device for device in local if device.type is DeviceType.IGPU])]


def buffer_types_of(chosen: Sequence[str] | None, split_mode: SplitMode, main_gpu: int) -> dict[str, int]:
    """Handles by name of the buffer types for tensors of a model with this placement: the CPU's and its devices'.

    A tensor anywhere else would end the process, because nobody could compute with it.
    """
    found = devices.devices()
    used = spread_over(found, chosen)
    if split_mode is SplitMode.NONE:
        used = used[main_gpu : main_gpu + 1]
    cpu = [device for device in found if device.type is DeviceType.CPU]
    return dict(devices.buffer_type(device) for device in (*cpu, *used))
