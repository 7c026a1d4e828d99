"""How long drafts are: by their chances, the measured costs, and who else waits for the step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.requests import GenerationRequest
from engine.text.sequence import Sequence
from engine.text.speculation.acceptance import Acceptance
from engine.text.speculation.drafter import Draft
from engine.text.speculation.lengths import allot
from engine.text.speculation.probing import Probing
from engine.text.speculation.row_cost import RowCost


def text(n_generated: int = 0) -> Sequence:
    sequence = Sequence.of(GenerationRequest(id="x", prompt=[1]), 1, 0.0)
    sequence.n_generated = n_generated
    return sequence


def test_sure_tokens_are_all_checked_where_rows_are_cheap() -> None:
    assert allot([[0.99] * 8], streams=1, cost=lambda n: 1 + 0.1 * n, most=100) == [8]


def test_nothing_is_checked_that_costs_more_than_it_gives() -> None:
    assert allot([[0.1] * 8], streams=1, cost=lambda n: 1 + 0.5 * n, most=100) == [0]
    assert allot([[0.9] * 8], streams=1, cost=lambda n: 1 + n, most=100) == [0]


def test_a_step_in_the_costs_is_stepped_over_where_that_pays() -> None:
    # As tiles of rows: the second row costs as much as the sixteenth.
    assert allot([[0.95] * 15], streams=1, cost=lambda n: 1 if n == 0 else 4, most=100) == [15]


def test_a_draft_is_not_shorter_than_the_least() -> None:
    chances = [[0.9, 0.9, 0.01, 0.01, 0.01, 0.01]]
    assert allot(chances, streams=1, cost=lambda n: 1 + 0.4 * n, most=100) == [2]
    assert allot(chances, streams=1, cost=lambda n: 1 + 0.4 * n, most=100, least=6) == [0]
    assert allot(chances, streams=1, cost=lambda n: 1 + 0.01 * n, most=100, least=5) == [5]


def test_streams_without_drafts_weigh_against_a_longer_step() -> None:
    def chosen(streams: int) -> list[int]:
        return allot([[0.95] * 8], streams=streams, cost=lambda n: 1 + 0.1 * n, most=100)

    assert chosen(1) == [8]
    assert 0 < chosen(3)[0] < 8
    assert chosen(20) == [0]


def test_a_step_does_not_last_longer_than_it_may() -> None:
    assert allot([[0.99] * 8], streams=1, cost=lambda n: 1 + 0.1 * n, most=100, ceiling=1.35) == [3]


@given(
    st.lists(st.lists(st.floats(0, 1), max_size=9), min_size=1, max_size=5),
    st.floats(0, 1),
    st.integers(0, 20),
    st.integers(1, 4),
)
def test_limits_are_kept(chances: list[list[float]], row: float, most: int, least: int) -> None:
    lengths = allot(chances, streams=len(chances), cost=lambda n: 1 + row * n, most=most, least=least)
    assert sum(lengths) <= most
    assert all(n == 0 or least <= n <= len(draft) for n, draft in zip(lengths, chances, strict=True))


def test_the_cost_of_rows_is_what_was_measured() -> None:
    cost = RowCost()
    assert cost.curve() is None
    cost.measured(1, 0.040)
    cost.measured(8, 0.130)
    curve = cost.curve()
    assert curve is not None
    assert curve(1) == pytest.approx(0.040)
    assert curve(8) == pytest.approx(0.130)
    assert 0.040 < curve(4) < 0.130
    assert curve(9) > 0.130
    cost.row = 0.010
    beyond = cost.curve()
    assert beyond is not None
    assert beyond(10) == pytest.approx(0.150)


def test_old_costs_are_forgotten() -> None:
    cost = RowCost()
    cost.measured(8, 100.0)
    for _ in range(600):
        cost.measured(1, 0.040)
    curve = cost.curve()
    assert curve is not None
    assert curve(8) < 1.0


def test_acceptance_is_learned_for_each_sequence_and_for_all() -> None:
    acceptance, good, bad = Acceptance(), text(), text()
    draft = Draft((1, 2), ("a", "b"), (0.5, 0.5))
    for _ in range(50):
        acceptance.observe(good, draft, [1, 2, 3])
        acceptance.observe(bad, draft, [9])
    assert acceptance.chance(good, "a", 0.5) > 0.8
    assert acceptance.chance(bad, "a", 0.5) < 0.2
    assert 0.4 < acceptance.chance(text(), "a", 0.5) < 0.6, "a new one is like all"
    assert acceptance.chance(text(), "never seen", 0.7) == 0.7
    assert acceptance.chances(good, draft)[1] > 0.8
    acceptance.forget(good)
    assert acceptance.chance(good, "a", 0.5) < 0.6


def test_what_lies_behind_a_wrong_token_is_not_judged() -> None:
    acceptance, sequence = Acceptance(), text()
    acceptance.observe(sequence, Draft((1, 2), ("a", "b"), (0.5, 0.5)), [9, 2])
    assert acceptance.chance(sequence, "b", 0.5) == 0.5


def test_a_drafter_with_a_price_is_asked_only_where_it_pays() -> None:
    probing, sequence = Probing(Acceptance()), text()

    def cost(count: int) -> float:
        return 1 + 0.1 * count

    assert probing.worth_asking({sequence: 8}, None, cost, 1) == {sequence: 8}, "to learn its price"
    assert probing.worth_asking({sequence: 8}, 0.1, cost, 1)[sequence] > 1
    assert probing.worth_asking({sequence: 8}, 2.0, cost, 1) == {}


def test_who_is_not_asked_for_is_tried_again_later_and_more_seldom() -> None:
    probing = Probing(Acceptance())
    sequence = text()
    asked: list[int] = []
    for sequence.n_generated in range(400):
        if probing.worth_asking({sequence: 8}, 5.0, lambda count: 1.0 + count, 1):
            asked.append(sequence.n_generated)
    assert asked == [32, 96, 224]


def test_a_drafter_that_is_wrong_is_given_up_and_comes_back() -> None:
    probing, sequence = Probing(Acceptance()), text()

    def ask() -> dict[Sequence, int]:
        return probing.worth_asking({sequence: 8}, 0.2, lambda count: 1.0 + 0.2 * count, 1)

    assert ask()[sequence] > 0
    for _ in range(30):
        probing.observe(sequence, Draft((1,), ("m",), (0.9,)), [2])
    assert ask() == {}
    for _ in range(200):
        probing.observe(sequence, Draft((1,), ("m",), (0.9,)), [1])
    assert ask()[sequence] > 0


def test_tokens_that_do_not_come_are_paid_for_like_wrong_ones() -> None:
    """A draft model that is always right and mostly silent would be asked for ever."""
    probing, sequence = Probing(Acceptance()), text()

    def ask() -> dict[Sequence, int]:
        return probing.worth_asking({sequence: 8}, 0.4, lambda count: 1.0 + 0.2 * count, 1)

    for _ in range(20):
        if not ask():
            break
        probing.observe(sequence, Draft(), [1])
    assert ask() == {}
    probing.forget(sequence)


def test_tokens_that_were_not_asked_for_are_not_missed() -> None:
    acceptance, sequence = Acceptance(), text()
    probing = Probing(acceptance)
    probing.worth_asking({sequence: 1}, None, lambda count: 1.0, 1)
    for _ in range(20):
        probing.observe(sequence, Draft((1,), ("m",), (0.9,)), [1, 2])
        probing.observe(sequence, Draft((1, 2), ("m", "m"), (0.9, 0.9)), [1])
    assert acceptance.chance(sequence, "asked", 0.8) > 0.9
