"""The vector of a text that was computed in pieces."""

from collections.abc import Sequence

import numpy as np

from engine.embedding.requests import Vector
from engine.native.options import Pooling


def join(pooling: Pooling, sizes: Sequence[int], parts: Sequence[Vector]) -> Vector:
    """One result from those of the pieces, which have ``sizes`` tokens.

    Right where attention is causal, so that a token's vector does not depend on the pieces after it.
    """
    if len(parts) == 1:
        return parts[0]
    match pooling:
        case Pooling.NONE:
            return np.concatenate(parts)
        case Pooling.CLS:
            return parts[0]
        case Pooling.LAST | Pooling.RANK:
            return parts[-1]
        case Pooling.MEAN:
            mean = np.average(np.stack(parts), axis=0, weights=np.asarray(sizes, np.float64))
            return mean.astype(np.float32)
        case _:
            raise AssertionError(f"not a pooling: {pooling!r}")
