"""The learned cost of a step and the prefill share that follows from it."""

import pytest

from engine.text.step_cost import StepCost


def test_nothing_measured_yet_means_the_least() -> None:
    cost = StepCost()
    assert cost.prefill_limit(0.15, 16, 512) == 16
    cost.measured(2, 0, 0.05)
    assert cost.prefill_limit(0.15, 16, 512) == 16


def test_the_limit_is_what_fits_beside_the_decodes() -> None:
    cost = StepCost()
    cost.measured(1, 0, 0.050)
    cost.measured(1, 100, 0.150)
    assert cost.prefill_token == pytest.approx(0.001)
    assert cost.prefill_limit(0.1501, 16, 512) == 100
    assert cost.prefill_limit(10.0, 16, 512) == 512
    assert cost.prefill_limit(0.051, 16, 512) == 16
    assert cost.prefill_limit(0.010, 16, 512) == 16, "even a decode alone is over the target"


def test_a_prefill_without_decodes_is_not_charged_for_them() -> None:
    cost = StepCost()
    cost.measured(1, 0, 0.050)
    cost.measured(0, 100, 0.100)
    assert cost.prefill_token == pytest.approx(0.001)


def test_newer_steps_count_more() -> None:
    cost = StepCost()
    cost.measured(1, 0, 0.1)
    for _ in range(50):
        cost.measured(1, 0, 0.2)
    assert cost.decode == pytest.approx(0.2, rel=0.01)
    cost.measured(1, 0, 1.2)
    assert cost.decode == pytest.approx(0.4, rel=0.01), "one slow step does not turn everything over"
