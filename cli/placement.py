"""Whether the devices that the command line names exist. Asks the native library, so only when something was named."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from cli.errors import UsageError
from cli.parse import Given
from engine.native.options import SplitMode


@attrs.frozen(kw_only=True)
class Known:
    """What the native library can place a model on.

    ``devices``: those that can hold a part of it, in order. ``shared``: those of them that it would take by itself.
    ``buffer_types``: names for tensors of a model on the given devices; None are those that it would take.
    """

    devices: Sequence[str]
    shared: Sequence[str]
    buffer_types: Callable[[Sequence[str] | None], Sequence[str]]


def known_placements() -> Known:
    """Asks the library; the devices of RPC servers are among the answers once they are connected."""
    from engine.native.devices import DeviceType, devices
    from engine.native.placement import buffer_types_of, spread_over

    found = devices()
    return Known(
        devices=[device.name for device in found if device.type is not DeviceType.CPU],
        shared=[device.name for device in spread_over(found, None)],
        buffer_types=lambda chosen: list(buffer_types_of(chosen, SplitMode.LAYER, 0)),
    )


def check_placement(values: Mapping[str, Given], known: Callable[[], Known] = known_placements) -> None:
    """Check what was named against what there is.

    UsageError when a device is unknown or named twice, the main one is none of them, the split names too many, or a
    tensor's buffer type belongs to none of the devices in use.
    """
    chosen = values.get("engine.model.devices")
    main = values.get("engine.model.main_gpu")
    split = values.get("engine.model.tensor_split")
    overrides = values.get("engine.model.tensor_overrides")
    if not (chosen or main or split or overrides):
        return
    there = known()
    names = _chosen(chosen, there) if chosen else there.shared
    # Without a device the processor counts as one: "the first" and "all of it" are still true.
    most = max(len(names), 1)
    if main and main.value >= most:
        raise UsageError(f"{main.spelling}: {main.value} is not below the number of devices, {len(names)}")
    if split and len(split.value) > most:
        raise UsageError(f"{split.spelling}: {len(split.value)} shares for {len(names)} devices")
    if overrides:
        if _value(values, "engine.model.split_mode") is SplitMode.NONE:
            number = main.value if main else 0
            names = names[number : number + 1]
        _check_overrides(overrides, there.buffer_types(names))


def _chosen(chosen: Given, there: Known) -> Sequence[str]:
    names: Sequence[str] = chosen.value
    for name in names:
        if name not in there.devices:
            known = ", ".join(there.devices) or "none"
            raise UsageError(f"{chosen.spelling}: unknown device {name!r}; known: {known}")
        if names.count(name) > 1:
            raise UsageError(f"{chosen.spelling}: {name} is named twice")
    return names


def _check_overrides(overrides: Given, types: Sequence[str]) -> None:
    for _, name in overrides.value:
        if name not in types:
            raise UsageError(
                f"{overrides.spelling}: {name!r} is no buffer type of the devices in use; known: {', '.join(types)}"
            )


def _value(values: Mapping[str, Given], key: str) -> Any:
    given = values.get(key)
    return None if given is None else given.value
