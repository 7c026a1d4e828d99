"""What it costs to copy cells between the KV cache and host memory, or between streams, learned while running."""

from collections.abc import Callable
from time import perf_counter

import attrs

from engine.text.backend import Memory

# Weight of the newest measurement; about the last ten copies count.
_ALPHA = 0.2


@attrs.define
class CopyCost:
    """Seconds per cell as moving averages. None: nothing measured yet."""

    save: float | None = None
    restore: float | None = None

    def saved(self, n_cells: int, seconds: float) -> None:
        """So many cells were copied out."""
        self.save = _average(self.save, seconds / n_cells)

    def restored(self, n_cells: int, seconds: float) -> None:
        """So many cells were copied in."""
        self.restore = _average(self.restore, seconds / n_cells)

    @property
    def out_and_in(self) -> float | None:
        """Seconds to copy a cell out and in again. None: not both are known."""
        return None if self.save is None or self.restore is None else self.save + self.restore

    def saving_pays(self, compute: float | None) -> bool:
        """Whether out and in again is cheaper than to compute, which takes ``compute`` seconds a token.

        True as long as one of them is not known: it is found out by doing it.
        """
        return compute is None or (self.save or 0.0) + (self.restore or 0.0) < compute

    def restoring_pays(self, compute: float | None) -> bool:
        """The same for what has been copied out already."""
        return compute is None or (self.restore or 0.0) < compute


class TimedMemory:
    """Satisfies ``engine.text.plan.SchedulerMemory``; measures what copies between streams cost.

    A copy reads all cells of its source, whatever part of them is wanted.
    """

    def __init__(self, memory: Memory, clock: Callable[[], float] = perf_counter) -> None:
        self._memory = memory
        self._clock = clock
        self.cell: float | None = None  # seconds for a cell of the source
        self.remove = memory.remove
        self.shift = memory.shift
        self.span = memory.span
        self.exchange = memory.exchange

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """See ``engine.text.backend.Memory.copy``."""
        n_cells = self._memory.span(src)[1] + 1
        began = self._clock()
        self._memory.copy(src, dst, p0, p1)
        self.cell = _average(self.cell, (self._clock() - began) / max(1, n_cells))

    def price(self, compute: float | None) -> float | None:
        """Tokens that are computed while a cell is copied; ``compute``: seconds a token. None: not both are known."""
        return None if self.cell is None or not compute else self.cell / compute


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _ALPHA * (new - old)
