"""What it costs to copy cells between the KV cache and host memory, learned while running."""

import attrs

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


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _ALPHA * (new - old)
