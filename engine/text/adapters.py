"""Which LoRA adapters a generation runs with, and how strongly."""

import struct
from collections.abc import Iterable
from typing import Final

type AdapterSet = tuple[tuple[int, float], ...]
"""(id, scale) of each adapter in use, by id; none has the scale 0. Equal sets compute the same."""

NO_ADAPTERS: Final[AdapterSet] = ()


def adapter_set(scales: Iterable[tuple[int, float]]) -> AdapterSet:
    """The set of adapters ``(id, scale)``, each id at most once. Scales become what the library can hold, float32."""
    rounded = ((index, _float32(scale)) for index, scale in scales)
    return tuple(sorted((index, scale) for index, scale in rounded if scale != 0))


def _float32(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)
