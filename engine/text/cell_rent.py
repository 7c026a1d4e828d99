"""What a cell in use costs the steps of others, learned while running: how long an idle prefix is worth its place.

Attention reads every cell in use, idle ones too. A step of n tokens beside C cells takes about

    seconds = fixed + token · n + cell · C + pair · n · C

so an idle cell costs a step ``cell + pair · n`` seconds: its rent. To give it up saves the rent, and costs its price
when the prefix is asked for again: the seconds to compute a token, ``token + pair · C``, or to copy a cell out and in
again where host memory takes it. Nobody knows when that will be. The ski-rental rule gives a cell up when the rent
since its last use has reached the price, and never costs more than twice what the best choice in hindsight would; a
threshold that is drawn anew each time, between nothing and the price, costs 1.58 times as much on average (Karlin et
al., 1994, Competitive randomized algorithms for nonuniform problems). The mean of that draw, 1 / (e - 1) of the price,
is the threshold here. Of the price only that share is expected to be paid that is asked for again at all.

The four costs are fitted to the steps of the last minutes by least squares, relative errors, none of them negative.
"""

import sys
from math import e
from typing import Any, Final

import numpy as np

# Computed tokens. No idle prefix goes earlier, unless its place is needed: the costs are guesses from noisy times, and
# who comes back after a short pause is to find it.
LEAST_AGE: Final = 2048

_THRESHOLD: Final = 1 / (e - 1)  # of the price, see above
_KEEP: Final = 0.999  # weight of what was known with each new step: about the last thousand count
_EVERY: Final = 64  # steps from one fit to the next
# A fit is believed when the rent's standard error is this share of it, or of what the age of 8,192 that is in force
# without any knowledge would mean. Steps beside about as many cells do not tell what a cell costs.
_SURE: Final = 0.1
_BLIND_AGE: Final = 8192
_NOISE: Final = 0.01  # of a step's time: no clock is better


class CellRent:
    """Used by the engine thread."""

    def __init__(self) -> None:
        # Sums over steps of products of (1, tokens, cells, tokens · cells, seconds), each divided by the seconds.
        self._moments = np.zeros((5, 5))
        self._n_steps = 0
        self._batch = 0.0  # mean tokens of a step
        self._costs: np.ndarray[Any, Any] | None = None  # fixed, token, cell, pair

    def measured(self, n_tokens: int, n_cells: int, seconds: float) -> None:
        """A step of at least one token, with so many cells in use at its end, took so long."""
        if seconds <= 0:
            return
        row = np.array((1.0, n_tokens, n_cells, n_tokens * n_cells, seconds)) / seconds
        self._moments *= _KEEP
        self._moments += row[:, None] * row
        self._n_steps += 1
        self._batch += (n_tokens - self._batch) * max(1 - _KEEP, 1 / self._n_steps)
        if self._n_steps % _EVERY == 0:
            costs = _fit(self._moments)
            if self._is_sure(costs):
                self._costs = costs

    @property
    def rent(self) -> float | None:
        """Seconds that a cell costs for each token that is computed meanwhile. None: nothing is known yet."""
        return None if self._costs is None else float(self._each @ self._costs)

    def tokens(self, price: float | None) -> int | None:
        """How many tokens are computed until a cell has cost ``price`` seconds. None: that or the rent is not known."""
        rent = self.rent
        if price is None or rent is None:
            return None
        return int(min(price / rent, sys.maxsize)) if rent > 0 else sys.maxsize

    def idle_age(self, n_active: int, returning: float) -> int | None:
        """Computed tokens after which idle prefixes are not worth their cells; None: nothing is known yet.

        ``n_active``: cells of running requests, beside which a prefix would be computed again. Idle ones are left out,
        although attention would read them too: else the more are kept, the longer each would be worth keeping.
        ``returning``: the share of idle cells that are asked for again.
        """
        if self._costs is None:
            return None
        price = float(self._costs[1] + self._costs[3] * n_active)
        age = self.tokens(_THRESHOLD * returning * price)
        return None if age is None else max(LEAST_AGE, age)

    @property
    def _each(self) -> np.ndarray[Any, Any]:
        """How much of each cost a computed token pays for a cell."""
        return np.array((0.0, 0.0, 1 / self._batch, 1.0))

    def _is_sure(self, costs: np.ndarray[Any, Any]) -> bool:
        terms, weight = self._moments[:4, :4], self._moments[4, 4]
        unexplained = 1 + (costs @ terms - 2 * self._moments[:4, 4]) @ costs / weight
        scale = np.sqrt(np.diag(terms))
        each = self._each / scale
        # Slightly more than the diagonal: what the steps do not tell apart comes out as very uncertain.
        variance = each @ np.linalg.solve(terms / np.outer(scale, scale) + 1e-9 * np.eye(4), each)
        error = np.sqrt(max(unexplained, _NOISE**2) * variance)
        return bool(error <= _SURE * max(self._each @ costs, costs[1] / _BLIND_AGE))


def _fit(moments: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Least squares from the moments; what would be negative is left out, the worst first."""
    costs = np.zeros(4)
    kept = [0, 1, 2, 3]
    # Scaled to one size: the terms differ by many orders of magnitude.
    scale = np.sqrt(np.diag(moments)[:4])
    while kept:
        matrix = moments[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept])
        found = np.linalg.lstsq(matrix, moments[kept, 4] / scale[kept], rcond=1e-9)[0]
        if found.min() >= 0:
            costs[kept] = found / scale[kept]
            break
        kept.pop(int(found.argmin()))
    return costs
