"""What idle cells cost, found from steps, and how long they are kept for it."""

import random
import sys
from math import e, exp

import pytest

from engine.text.cell_rent import LEAST_AGE, CellRent
from tools.bench.simulation.cost import MACHINES, CostModel

GPU, CPU = MACHINES["gpu"], MACHINES["cpu"]


def after(cost: CostModel, *, batches: list[int], cells: list[int], n_steps: int = 512, noise: float = 0.0) -> CellRent:
    """Steps of batches in turn beside cells in turn, each shorter or longer at random."""
    rent, rng = CellRent(), random.Random(4)
    for step in range(n_steps):
        n_tokens, n_cells = batches[step % len(batches)], cells[step % len(cells)]
        rent.measured(n_tokens, n_cells, cost.seconds(n_tokens, n_cells) * exp(rng.gauss(0, noise)))
    return rent


def rent_of(cost: CostModel, batches: list[int]) -> float:
    """Seconds for each token that is computed beside a cell."""
    return cost.cell * len(batches) / sum(batches) + cost.pair


@pytest.mark.parametrize("cost", [GPU, CPU])
@pytest.mark.parametrize("batches", [[1], [1, 8, 400], [256, 300]])
@pytest.mark.parametrize(("noise", "wrong"), [(0.0, 1e-3), (0.1, 0.25)])
def test_the_rent_is_found_also_behind_noise(cost: CostModel, batches: list[int], noise: float, wrong: float) -> None:
    found = after(cost, batches=batches, cells=[5_000, 60_000, 20_000, 90_000, 200, 70_000, 40_000], noise=noise)
    assert found.rent == pytest.approx(rent_of(cost, batches), rel=wrong)


def test_an_age_is_the_price_over_the_rent() -> None:
    found = after(CPU, batches=[1, 100], cells=[1_000, 9_000, 300])
    assert found.tokens(9e-3) == pytest.approx(10_000, rel=1e-3)
    assert found.tokens(None) is None


def test_idle_prefixes_go_at_a_part_of_the_price_that_is_likely_paid() -> None:
    found = after(CPU, batches=[1, 100], cells=[1_000, 9_000, 300])
    part = 1 / (e - 1)
    assert found.idle_age(0, 1.0) == pytest.approx(part * CPU.token / CPU.pair, rel=1e-3)
    assert found.idle_age(20_000, 1.0) == pytest.approx(part * (CPU.token / CPU.pair + 20_000), rel=1e-3)
    assert found.idle_age(20_000, 0.5) == pytest.approx(part / 2 * (CPU.token / CPU.pair + 20_000), rel=1e-3)


def test_no_age_is_less_than_the_least() -> None:
    found = after(CostModel(fixed=1e-3, token=1e-3, pair=1e-6), batches=[1, 100], cells=[1_000, 9_000, 300])
    assert found.tokens(1e-3) == pytest.approx(1_000, rel=1e-3)
    assert found.idle_age(0, 1.0) == LEAST_AGE


def test_cells_that_cost_nothing_are_kept_for_good() -> None:
    found = after(CostModel(fixed=1e-3, token=1e-3), batches=[1, 100], cells=[1_000, 9_000, 300])
    assert found.rent == pytest.approx(0, abs=1e-12)
    assert found.idle_age(0, 1.0) is not None
    assert found.idle_age(0, 1.0) > 1e9
    faster_with_cells = after(CostModel(fixed=1e-3, token=1e-3, cell=-1e-9), batches=[1], cells=[1_000, 9_000, 300])
    assert faster_with_cells.rent == 0
    assert faster_with_cells.idle_age(0, 1.0) == sys.maxsize


@pytest.mark.parametrize(
    ("cells", "n_steps", "noise", "known"),
    [
        ([5_000], 512, 0.0, False),
        ([5_000, 5_050], 512, 0.1, False),
        ([4_500, 5_000, 5_600], 512, 0.0, True),
        ([1_000, 9_000, 300], 63, 0.0, False),
        ([1_000, 9_000, 300], 64, 0.0, True),
        ([1_000, 9_000, 300], 64, 0.8, False),
    ],
)
def test_nothing_is_said_before_steps_tell(cells: list[int], n_steps: int, noise: float, known: bool) -> None:
    found = after(CPU, batches=[1, 100], cells=cells, n_steps=n_steps, noise=noise)
    assert (found.idle_age(0, 1.0) is not None) == known


def test_what_was_learned_stays_while_nothing_varies() -> None:
    found = after(CPU, batches=[1, 100], cells=[1_000, 9_000, 300])
    age = found.idle_age(0, 1.0)
    for _ in range(20_000):
        found.measured(1, 5_000, CPU.seconds(1, 5_000))
    assert found.idle_age(0, 1.0) == pytest.approx(age, rel=1e-2)


def test_a_clock_that_stands_still_teaches_nothing() -> None:
    found = CellRent()
    for step in range(128):
        found.measured(1, 100 * step, 0.0)
    assert found.rent is None
