"""The LoRA adapters of a request, and how they are shown."""

from collections.abc import Sequence
from typing import Any, Final

from api.errors import bad_request
from api.fields import LoraScale
from engine.text.adapters import AdapterSet, adapter_set

_DIGITS: Final = 7  # what is left of a decimal number that went through 32 bits


def chosen_adapters(asked: Sequence[LoraScale] | None, n_adapters: int, default: AdapterSet) -> AdapterSet:
    """What a request is to be computed with: what it lists, and nothing else; ``default`` where it lists nothing.

    Raises ApiError 400.
    """
    return scales(asked, n_adapters, "lora") if asked else default


def scales(given: Sequence[LoraScale], n_adapters: int, param: str) -> AdapterSet:
    """The listed adapters; the others have the scale 0. Raises ApiError 400 for ids that do not exist or come twice."""
    ids = [entry.id for entry in given]
    for adapter in ids:
        if adapter >= n_adapters:
            known = f"there are 0 to {n_adapters - 1}" if n_adapters else "none is loaded (--lora)"
            raise bad_request(f"{param}: there is no adapter {adapter}, {known}", param)
    if len(set(ids)) < len(ids):
        raise bad_request(f"{param}: an adapter is listed twice", param)
    return adapter_set((entry.id, entry.scale) for entry in given)


def lora_json(adapters: AdapterSet) -> list[dict[str, Any]]:
    """The adapters in use, as a request lists them."""
    return [{"id": adapter, "scale": shown_scale(scale)} for adapter, scale in adapters]


def shown_scale(scale: float) -> float:
    """The shortest number that the engine takes for this one: 0.1 and not 0.10000000149011612."""
    return float(f"{scale:.{_DIGITS}g}")
