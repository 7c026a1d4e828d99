"""Whether other programs want the processors on which this one computes."""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, Self

import attrs

_FOUND: Final = 0.2  # processors more than we leave to others: they are missed
_GONE: Final = 0.1
_CALM: Final = 3  # readings in a row before it is believed that they are gone
_STAT: Final = Path("/proc/stat")


@attrs.define
class Contention:
    """The judgement, reading by reading. ``spare``: processors that our computing threads leave to others."""

    spare: float
    found: bool = False
    _calm: int = attrs.field(default=0, init=False)

    def judge(self, others: float) -> bool:
        """Whether there is contention now that others have used so many processors since the last reading."""
        if others > self.spare + _FOUND:
            self.found, self._calm = True, 0
        elif others > self.spare + _GONE:
            self._calm = 0
        else:
            self._calm += 1
            self.found = self.found and self._calm < _CALM
        return self.found


@attrs.frozen
class Reading:
    """Processor seconds used so far, on the processors that this process may use."""

    at: float  # seconds of a clock
    all: float  # by all programs, and what a hypervisor took
    own: float  # by this process

    @classmethod
    def take(cls, processors: Collection[int]) -> Self:
        """Now. Raises OSError or ValueError where the system does not tell (it is Linux that does)."""
        ticks = used_ticks(_STAT.read_text(), processors)
        return cls(at=time.monotonic(), all=ticks / os.sysconf("SC_CLK_TCK"), own=time.process_time())

    def others(self, before: "Reading") -> float:
        """Processors that others have used on average since ``before``."""
        elapsed = self.at - before.at
        return max(0.0, (self.all - before.all) - (self.own - before.own)) / elapsed if elapsed > 0 else 0.0


def used_ticks(stat: str, processors: Collection[int]) -> int:
    """Ticks of these processors in a text of /proc/stat that were not idle; guests are counted in user already."""
    total = 0
    names = {f"cpu{number}" for number in processors}
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total
