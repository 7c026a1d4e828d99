"""Notices when steps are slow for cells of other conversations, which streams would not read: see ``kv_layout``.

How the cells are laid out is decided before the first request, what a foreign cell costs is known later (see
``engine.text.cell_rent``), and how many there are depends on who comes. So whoever starts the server is told.
"""

from collections.abc import Callable
from typing import Final

from engine.text.plan import StepPlan

MUCH: Final = 0.2  # of the computing time: streams have costs of their own, most of all where prompts come beside them
ENOUGH: Final = 1000  # steps before anything is said
_KEEP: Final = 1 - 1 / ENOUGH  # weight of what was known with each new step


class ForeignCells:
    """Used by the engine thread. ``tell`` is called once, with the share of the time, when that is much."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._told = False
        self._n_steps = 0
        self._seconds = self._foreign = 0.0

    def measured(self, plan: StepPlan, n_active: int, rent: float | None, seconds: float) -> None:
        """A step beside so many cells of running requests took so long.

        ``rent``: seconds that a cell costs each token of a step; None: not known, the step does not count.
        """
        if rent is None or self._told:
            return
        foreign = sum(len(p.run.tokens) * max(0, n_active - p.run.start - len(p.run.tokens)) for p in plan.runs)
        self._seconds = self._seconds * _KEEP + seconds
        self._foreign = self._foreign * _KEEP + rent * foreign
        self._n_steps += 1
        if self._n_steps >= ENOUGH and self._foreign >= MUCH * self._seconds:
            self._told = True
            self._tell(self._foreign / self._seconds)
