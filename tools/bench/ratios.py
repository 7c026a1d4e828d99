"""From one figure a server and round to ratios, and to the table that people read. Pure."""

import enum
import statistics
from collections.abc import Iterable, Sequence

import attrs


class Comparison(enum.Enum):
    """How the two figures of a round become the one that is judged."""

    OURS_OVER_THEIRS = "ours / theirs"
    THEIRS_OVER_OURS = "theirs / ours"
    OURS_MINUS_THEIRS = "ours - theirs"

    def apply(self, ours: float, theirs: float) -> float:
        """The judged figure. Raises ValueError when a ratio's divisor is not positive."""
        if self is Comparison.OURS_MINUS_THEIRS:
            return ours - theirs
        above, below = (ours, theirs) if self is Comparison.OURS_OVER_THEIRS else (theirs, ours)
        if below <= 0:
            msg = f"cannot take {self.value} of {ours} and {theirs}"
            raise ValueError(msg)
        return above / below


@attrs.frozen
class Target:
    """What the median should reach: at least or at most ``value``."""

    value: float
    at_least: bool

    def met(self, median: float) -> bool:
        """Whether the median reaches it."""
        return median >= self.value if self.at_least else median <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@attrs.frozen(kw_only=True)
class Metric:
    """What a scenario measures; ``unit`` is that of one server's figure."""

    key: str
    title: str
    unit: str
    comparison: Comparison
    target: Target | None = None


@attrs.frozen
class Pair:
    """The figures of one round."""

    ours: float
    theirs: float


@attrs.frozen
class Summary:
    """The judged figure over the rounds."""

    minimum: float
    median: float
    maximum: float


def summarize(comparison: Comparison, pairs: Sequence[Pair]) -> Summary:
    """Compare within each round, then over the rounds. Raises ValueError without rounds."""
    if not pairs:
        msg = "no rounds to summarize"
        raise ValueError(msg)
    values = [comparison.apply(pair.ours, pair.theirs) for pair in pairs]
    return Summary(min(values), statistics.median(values), max(values))


def row(metric: Metric, pairs: Sequence[Pair]) -> str:
    """One line of the Markdown table; a scenario without a complete round says so."""
    name, target = f"({metric.key}) {metric.title}", metric.target or "none"
    if not pairs:
        return f"| {name} | {metric.comparison.value} | failed | | | {target} | no |"
    found = summarize(metric.comparison, pairs)
    digits = 1 if metric.comparison is Comparison.OURS_MINUS_THEIRS else 3
    low, middle, high = (f"{value:.{digits}f}" for value in (found.minimum, found.median, found.maximum))
    ours = statistics.median(pair.ours for pair in pairs)
    theirs = statistics.median(pair.theirs for pair in pairs)
    met = "-" if metric.target is None else "yes" if metric.target.met(found.median) else "no"
    return (
        f"| {name} | {metric.comparison.value}, of {ours:.4g} and {theirs:.4g} {metric.unit} "
        f"| {low} | **{middle}** | {high} | {target} | {met} |"
    )


def table(results: Iterable[tuple[Metric, Sequence[Pair]]]) -> str:
    """The Markdown table: minimum, median and maximum over the rounds."""
    head = ["| scenario | compared (medians) | min | median | max | target | met |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *(row(metric, pairs) for metric, pairs in results)])


def ours_first(round_number: int, scenario_number: int) -> bool:
    """Who goes first: it alternates from round to round and from scenario to scenario."""
    return (round_number + scenario_number) % 2 == 0
