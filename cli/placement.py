"""Whether the devices that the command line names exist. Asks the native library, so only when something was named."""

from collections.abc import Callable, Mapping, Sequence

from cli.errors import UsageError
from cli.parse import Given


def known_devices() -> list[str]:
    """Names of the devices that can hold a part of the model, in the library's order."""
    from engine.native.devices import DeviceType, devices

    return [device.name for device in devices() if device.type is not DeviceType.CPU]


def check_placement(values: Mapping[str, Given], known: Callable[[], Sequence[str]] = known_devices) -> None:
    """UsageError when a device is unknown, the main one is none of them, or the split names too many."""
    chosen = values.get("engine.model.devices")
    main = values.get("engine.model.main_gpu")
    split = values.get("engine.model.tensor_split")
    if not (chosen or main or split):
        return
    names = known()
    if chosen:
        for name in chosen.value:
            if name not in names:
                raise UsageError(f"{chosen.spelling}: unknown device {name!r}; known: {', '.join(names) or 'none'}")
        names = chosen.value
    # Without a device the processor counts as one: "the first" and "all of it" are still true.
    most = max(len(names), 1)
    if main and main.value >= most:
        raise UsageError(f"{main.spelling}: {main.value} is not below the number of devices, {len(names)}")
    if split and len(split.value) > most:
        raise UsageError(f"{split.spelling}: {len(split.value)} shares for {len(names)} devices")
