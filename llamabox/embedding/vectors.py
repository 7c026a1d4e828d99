"""Vectors as clients want them: cut, normalised; scores between 0 and 1."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

type Matrix = NDArray[np.float32]

NONE: Final = -1
LARGEST: Final = 0
EUCLIDEAN: Final = 2
_INT16: Final = 32760.0  # the largest element becomes this


def stack(vectors: Sequence[Matrix]) -> Matrix:
    """Vectors of one length as the rows of a matrix."""
    return np.stack(vectors)


def normalize(matrix: Matrix, norm: int = EUCLIDEAN) -> Matrix:
    """Each row divided by its ``norm``: 1 taxicab, 2 Euclidean, p > 2 the p-norm, 0 the largest element in the range of
    int16, -1 not at all. A row of zeros stays one.
    """
    if norm == NONE:
        return matrix
    if norm == EUCLIDEAN:  # what nearly everybody wants, with one copy
        wide = matrix.astype(np.float64)
        lengths = np.sqrt(np.vecdot(wide, wide))
        lengths[lengths == 0] = 1
        wide /= lengths[:, None]
        return wide.astype(np.float32)
    sizes = _sizes(matrix, norm)
    result: Matrix = np.divide(matrix, sizes, out=np.zeros(matrix.shape), where=sizes > 0).astype(np.float32)
    return result


def _sizes(matrix: Matrix, norm: int) -> NDArray[np.float64]:
    """The norm of each row, as a column."""
    wide = np.abs(matrix.astype(np.float64))
    largest: NDArray[np.float64] = wide.max(axis=-1, keepdims=True)
    if norm == LARGEST:
        return largest / _INT16
    # Scaled first: a high power of a small number would be nothing.
    scaled = np.divide(wide, largest, out=np.zeros_like(wide), where=largest > 0)
    powers: NDArray[np.float64] = (scaled**norm).sum(axis=-1, keepdims=True)
    return largest * powers ** (1.0 / norm)


def sigmoid(score: float) -> float:
    """``score`` mapped to 0 … 1, order kept."""
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    power = math.exp(score)
    return power / (1.0 + power)
