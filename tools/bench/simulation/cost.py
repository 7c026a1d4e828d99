"""What a step costs on a machine that is not there: seconds as a function of batch tokens and cells in use."""

from collections.abc import Sequence

import attrs
import numpy as np


@attrs.frozen
class CostModel:
    """``fixed`` + ``token`` · tokens + ``cell`` · cells + ``pair`` · tokens · cells, in seconds.

    Cells: all that are in use. In the unified KV cache each token of a batch is compared with all of them.
    """

    fixed: float
    token: float = 0.0
    cell: float = 0.0
    pair: float = 0.0

    def seconds(self, n_tokens: int, n_cells: int) -> float:
        """Time of one step."""
        return self.fixed + self.token * n_tokens + self.cell * n_cells + self.pair * n_tokens * n_cells

    def __str__(self) -> str:
        terms = (f"{self.token * 1e6:g} µs a token", f"{self.cell * 1e9:g} ns a cell", f"{self.pair * 1e9:g} ns a pair")
        return f"{self.fixed * 1e3:g} ms a step + {' + '.join(terms)}"


# gpu: assumed, not measured. About an 8B model of 16 bits: 16 GB of weights at 2 TB/s, 16 GFLOP a token at 400 TFLOP/s,
# 128 KiB a cell at 2 TB/s (read once a batch), 0.5 MFLOP a pair at 300 TFLOP/s.
# cpu: measured for Qwen2.5 0.5B on two cores (engine.text.scheduler.IDLE_AGE): 10 ms a token, 0.9 µs a pair.
MACHINES = {
    "gpu": CostModel(fixed=8e-3, token=40e-6, cell=64e-9, pair=1.7e-9),
    "cpu": CostModel(fixed=17e-3, token=10e-3, pair=0.9e-6),
}


def parse_point(text: str) -> tuple[int, int, float]:
    """ "TOKENS,CELLS,SECONDS" of one measured step. Raises ValueError with the reason."""
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError(f"not TOKENS,CELLS,SECONDS: {text!r}")
    tokens, cells, seconds = int(parts[0]), int(parts[1]), float(parts[2])
    if tokens < 1 or cells < 0 or not 0 < seconds < float("inf"):
        raise ValueError(f"not a step's tokens, cells and seconds: {text!r}")
    return tokens, cells, seconds


def fit(points: Sequence[tuple[int, int, float]]) -> CostModel:
    """The model that is relatively closest to measured (tokens, cells, seconds), by least squares, no term negative.

    What would be negative is left out, the worst first. Raises ValueError for fewer than 4 points, and for points that
    do not tell the terms apart.
    """
    if len(points) < 4:
        raise ValueError(f"4 points are needed to fit 4 terms, there are {len(points)}")
    seconds = np.array([point[2] for point in points])
    columns = np.array([[1.0, n, c, n * c] for n, c, _ in points]) / seconds[:, None]
    if np.linalg.matrix_rank(columns / np.abs(columns).max(axis=0, initial=1e-300)) < 4:
        raise ValueError("the points do not tell the terms apart: vary tokens and cells independently")
    kept = [0, 1, 2, 3]
    while True:
        # Scaled to one size: the terms differ by many orders of magnitude.
        scale = np.abs(columns[:, kept]).max(axis=0)
        found = np.linalg.lstsq(columns[:, kept] / scale, np.ones(len(points)), rcond=None)[0]
        if found.min() >= 0:
            terms = dict(zip(kept, (found / scale).tolist(), strict=True))
            return CostModel(*(terms.get(term, 0.0) for term in range(4)))
        kept.pop(int(found.argmin()))
