"""What a decode costs by its number of rows, learned while running."""

import bisect
from collections.abc import Callable
from typing import Final

import attrs

# Weight of the newest measurement.
_ALPHA: Final = 0.2
_SHORTEST: Final = 1e-6  # seconds: a clock may stand still
# A width that was not decoded for so many steps is not known any more: contexts grow, and noise passes.
_AGE: Final = 512
# Cost of a row beside others, as a share of a decode with one, until a prompt has shown it. A guess.
_ROW_SHARE: Final = 0.25


@attrs.define
class _Width:
    seconds: float
    measured_at: int


class RowCost:
    """Seconds of steps without prompts. ``row``: what one more row costs where wider steps are not known."""

    def __init__(self) -> None:
        self._widths: dict[int, _Width] = {}
        self._steps = 0
        self.row: float | None = None

    def measured(self, rows: int, seconds: float) -> None:
        """A step with so many rows, at least 1, took so long."""
        self._steps += 1
        seconds = max(seconds, _SHORTEST)
        known = self._widths.get(rows)
        if known is None or known.measured_at <= self._steps - _AGE:
            self._widths[rows] = _Width(seconds, self._steps)
        else:
            known.seconds += _ALPHA * (seconds - known.seconds)
            known.measured_at = self._steps

    def curve(self) -> Callable[[int], float] | None:
        """Seconds of a step by its rows: measured, or between what was measured. None: nothing was."""
        oldest = self._steps - _AGE
        known = sorted((rows, width.seconds) for rows, width in self._widths.items() if width.measured_at > oldest)
        if not known:
            return None
        widths = [rows for rows, _ in known]

        def seconds(rows: int) -> float:
            at = bisect.bisect_left(widths, rows)
            if at < len(known) and (widths[at] == rows or at == 0):
                return known[at][1]
            below, cost = known[at - 1]
            if at == len(known):
                row = cost / below * _ROW_SHARE if self.row is None else self.row
                return cost + (rows - below) * row
            above, more = known[at]
            return cost + (rows - below) / (above - below) * (more - cost)

        return seconds
