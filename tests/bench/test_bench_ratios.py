"""Ratios read as the targets are written, and the table says what was reached."""

import pytest

from tools.bench.ratios import Comparison, Metric, Pair, Summary, Target, ours_first, row, summarize, table

RATE = Metric(
    key="a",
    title="speed",
    unit="tokens/s",
    comparison=Comparison.OURS_OVER_THEIRS,
    target=Target(1.0, at_least=True),
)
MEMORY = Metric(
    key="h",
    title="memory",
    unit="MB",
    comparison=Comparison.OURS_MINUS_THEIRS,
    target=Target(150.0, at_least=False),
)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (Comparison.OURS_OVER_THEIRS, 0.5),
        (Comparison.THEIRS_OVER_OURS, 2.0),
        (Comparison.OURS_MINUS_THEIRS, -10.0),
    ],
)
def test_each_comparison_has_its_direction(comparison: Comparison, expected: float) -> None:
    assert comparison.apply(10.0, 20.0) == expected


@pytest.mark.parametrize(
    ("comparison", "ours", "theirs"), [(Comparison.OURS_OVER_THEIRS, 1, 0), (Comparison.THEIRS_OVER_OURS, 0, 1)]
)
def test_a_ratio_needs_a_positive_divisor(comparison: Comparison, ours: float, theirs: float) -> None:
    with pytest.raises(ValueError, match="cannot take"):
        comparison.apply(ours, theirs)


def test_ratios_are_taken_within_a_round_before_the_median() -> None:
    # The ratio of the medians would be 20 / 20 = 1.
    pairs = [Pair(10, 20), Pair(20, 50), Pair(60, 10)]
    assert summarize(Comparison.OURS_OVER_THEIRS, pairs) == Summary(0.4, 0.5, 6.0)


def test_no_rounds_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        summarize(Comparison.OURS_OVER_THEIRS, [])


@pytest.mark.parametrize(
    ("target", "median", "met"),
    [
        (Target(3, at_least=True), 3.0, True),
        (Target(3, at_least=True), 2.99, False),
        (Target(0.15, at_least=False), 0.15, True),
        (Target(0.15, at_least=False), 0.16, False),
    ],
)
def test_targets_have_a_direction(target: Target, median: float, met: bool) -> None:
    assert target.met(median) is met


def test_the_table_holds_minimum_median_maximum_and_verdict() -> None:
    text = table([(RATE, [Pair(30, 20), Pair(10, 20), Pair(18, 20)]), (MEMORY, [Pair(500, 400)])])
    assert text.splitlines()[2:] == [
        "| (a) speed | ours / theirs, of 18 and 20 tokens/s | 0.500 | **0.900** | 1.500 | ≥ 1 | no |",
        "| (h) memory | ours - theirs, of 500 and 400 MB | 100.0 | **100.0** | 100.0 | ≤ 150 | yes |",
    ]


def test_a_scenario_without_a_complete_round_is_shown_as_failed() -> None:
    assert row(RATE, []) == "| (a) speed | ours / theirs | failed | | | ≥ 1 | no |"


def test_who_goes_first_alternates_in_rounds_and_scenarios() -> None:
    assert [ours_first(n, 0) for n in range(4)] == [True, False, True, False]
    assert [ours_first(0, n) for n in range(4)] == [True, False, True, False]
