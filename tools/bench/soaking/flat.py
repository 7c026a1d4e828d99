"""Whether what a server holds stays the same: memory, threads, open files. Pure."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Final

import attrs

WARM_UP: Final = 3  # the first of so many parts of the samples is not judged
LEAST: Final = 4  # samples that tell a trend
LEAST_GROWTH: Final = 8.0  # MB that say nothing, allocators being what they are
GROWTH_SHARE: Final = 0.02  # of the memory that the server has
MORE_THREADS: Final = 4  # idle ones that a pool may keep for a while


@attrs.frozen(kw_only=True)
class Sample:
    """An idle server between two rounds."""

    seconds: float
    memory: float  # MB, the mapped model and prompts in host memory left out
    threads: int
    files: int


def slope(samples: Sequence[Sample]) -> float:
    """MB a second, by the median of the slopes of all pairs: single steps and outliers do not count.

    Source: Theil, A rank-invariant method of linear and polynomial regression analysis (1950); Sen (1968).
    """
    return statistics.median(
        (late.memory - early.memory) / (late.seconds - early.seconds)
        for early, late in itertools.combinations(samples, 2)
        if late.seconds > early.seconds
    )


def judged(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those behind the warm-up; none where they are too few."""
    rest = samples[-(-len(samples) // WARM_UP) :]
    return rest if len(rest) >= LEAST else ()


def growth(samples: Sequence[Sample]) -> float | None:
    """MB by which the memory grew after the warm-up, going by the trend; None: too few samples."""
    rest = judged(samples)
    return slope(rest) * (rest[-1].seconds - rest[0].seconds) if rest else None


def swellings(samples: Sequence[Sample]) -> list[str]:
    """What grew."""
    found: list[str] = []
    rest = judged(samples)
    if not rest:
        return found
    grown = growth(samples)
    assert grown is not None, "there are samples"
    allowed = max(LEAST_GROWTH, GROWTH_SHARE * statistics.median(sample.memory for sample in rest))
    if grown > allowed:
        found.append(f"memory grew by {grown:.1f} MB after the warm-up, {allowed:.1f} are allowed")
    warm = samples[: len(samples) - len(rest)]
    for name, more in (("threads", MORE_THREADS), ("files", 0)):
        before = max(getattr(sample, name) for sample in warm)
        after = min(getattr(sample, name) for sample in rest[len(rest) // 2 :])
        if after > before + more:
            found.append(f"{name}: at least {after} at the end, at most {before} in the warm-up")
    return found
