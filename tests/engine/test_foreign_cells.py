"""Whoever starts the server is told when steps are slow for the tokens of other conversations."""

from typing import Any

import pytest

from engine.text.backend import Run
from engine.text.foreign_cells import ENOUGH, MUCH, ForeignCells
from engine.text.plan import PlannedRun, StepPlan

NOBODY: Any = None  # whose run it is does not matter
RENT = 1e-6


def plan(*held: int, n_tokens: int = 1) -> StepPlan:
    """A step of one run for each sequence, which holds so many cells with it."""
    return StepPlan(
        runs=tuple(PlannedRun(NOBODY, Run(i, n - n_tokens, [7] * n_tokens, True)) for i, n in enumerate(held))
    )


def told(
    step: StepPlan, n_active: int, seconds: float, *, count: int = 3 * ENOUGH, rent: float | None = RENT
) -> list[float]:
    shares: list[float] = []
    foreign = ForeignCells(shares.append)
    for _ in range(count):
        foreign.measured(step, n_active, rent, seconds)
    return shares


def test_told_once_how_much_it_is() -> None:
    assert told(plan(1000, 1000, 1000), 3000, 0.02) == [pytest.approx(0.3)]


@pytest.mark.parametrize(("factor", "count"), [(1.01, 1), (0.99, 0)])
def test_a_fifth_is_much(factor: float, count: int) -> None:
    assert len(told(plan(1000, 1000), 2000, 2000 * RENT / MUCH / factor)) == count


def test_what_all_share_is_foreign_to_nobody() -> None:
    assert not told(plan(1000, 1000, 1000), 1000, 0.001)


def test_each_token_of_a_prompt_reads_them() -> None:
    assert told(plan(1000, n_tokens=100), 3000, 0.5) == [pytest.approx(0.4)]
    assert not told(plan(1000), 3000, 0.5)


def test_nothing_is_said_too_early_or_without_knowledge() -> None:
    assert not told(plan(1000, 1000), 2000, 0.001, count=ENOUGH - 1)
    assert not told(plan(1000, 1000), 2000, 0.001, rent=None)


def test_a_short_time_does_not_count() -> None:
    shares: list[float] = []
    foreign = ForeignCells(shares.append)
    for step in range(20 * ENOUGH):
        much = step % ENOUGH < ENOUGH // 10
        foreign.measured(plan(1000, 1000), 2000 if much else 1000, RENT, 0.005)
    assert not shares
