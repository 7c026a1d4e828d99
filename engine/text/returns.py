"""How many of the idle cells are asked for again, by experience."""

from typing import Final

import attrs

_PRIOR: Final = 4096  # cells that are taken as asked for again before any were
_MEMORY: Final = 1 << 18  # cells: when so many are counted, they count half from then on


@attrs.define
class Returns:
    """Cells whose idle time ended: because a request came back to them, or because they had become too old."""

    _back: float = _PRIOR
    _gone: float = 0

    def came_back(self, n_cells: int) -> None:
        self._back += n_cells

    def went(self, n_cells: int) -> None:
        """Given up for their age. What had to make room tells nothing."""
        self._gone += n_cells
        if self._back + self._gone > _MEMORY:
            self._back /= 2
            self._gone /= 2

    @property
    def share(self) -> float:
        """Of idle cells, those that are asked for again: above 0.5, at most 1.

        Whether what went for its age would have been is never seen: half of it is taken to. Else ages could only
        shrink: the earlier cells go, the fewer are seen to come back.
        """
        return (self._back + self._gone / 2) / (self._back + self._gone)
