"""How many threads a loaded model's parts on this machine's processor compute with.

The library loads weights with as many threads as it computes with, and its connection to an RPC server is not made for
several: weights that go to one are garbled by a second thread. There is no second parameter, so such a model is loaded
with one thread and the number is put in its private place afterwards. That place is believed only if everything around
it looks as it does in the version that this was written for: else it stays at one thread.
"""

import ctypes
import math
import struct
from typing import Final

from engine.native.sd.memory import read_memory, read_pointer

# StableDiffusionGGML: 4 backends, the version, 5 flags, 2 shared pointers, n_threads, default_flow_shift.
_LAYOUT: Final = struct.Struct("<4QI5B7x4QIf")
_BEFORE: Final = 80  # bytes in front of the number
_SHIFTS: Final = (1.0, 1.15, 3.0, 4.0, 5.0)
_MOST_VERSIONS: Final = 100


class ThreadCount:
    """The number in a model that was loaded with one thread."""

    def __init__(self, address: int) -> None:
        self._number = ctypes.c_int.from_address(address)

    def set(self, number: int) -> None:
        """Compute with this many from the next call on; 1 where the call loads weights. On the model's thread."""
        self._number.value = number


def thread_count_of(context: int) -> ThreadCount | None:
    """That of the ``sd_ctx_t`` at this address, which was loaded with one thread; None where it is not found."""
    inner = read_pointer(context)
    raw = read_memory(inner, _LAYOUT.size) if inner else None
    if inner is None or raw is None:
        return None
    main, _, _, vae, version, *rest = _LAYOUT.unpack(raw)
    flags, shared, (number, shift) = rest[:5], rest[5:9], rest[9:]
    are_flags = all(flag <= 1 for flag in flags)
    is_shift = math.isinf(shift) or any(math.isclose(shift, known, rel_tol=1e-6) for known in _SHIFTS)
    is_known = main and vae and version < _MOST_VERSIONS and are_flags and all(shared) and number == 1 and is_shift
    return ThreadCount(inner + _BEFORE) if is_known else None
