"""A row of nothing: tried both ways, taken where it is cheaper, and tried anew after a while."""

import pytest

from engine.text.row_padding import AGAIN, FEWEST, MOST, TRIED, RowPadding


def steps(padding: RowPadding, n_rows: int, count: int, plain: float, padded: float) -> list[bool]:
    """So many steps of so many rows, and whether each of them had one more."""
    found = []
    for _ in range(count):
        found.append(padding.pads(n_rows))
        padding.measured(n_rows, padded=found[-1], seconds=padded if found[-1] else plain)
    return found


@pytest.mark.parametrize(("padded", "taken"), [(0.08, True), (0.095, True), (0.099, False), (0.13, False)])
def test_both_ways_are_tried_in_turns_and_the_cheaper_one_is_taken(padded: float, taken: bool) -> None:
    padding = RowPadding()
    assert steps(padding, 5, 2 * TRIED, 0.1, padded) == [False, True] * TRIED
    assert set(steps(padding, 5, 100, 0.1, padded)) == {taken}


@pytest.mark.parametrize("n_rows", [1, 2, 4, 8, MOST + 2])
def test_other_numbers_of_rows_are_left_alone(n_rows: int) -> None:
    padding = RowPadding()
    assert not any(steps(padding, n_rows, 100, 0.1, 0.01))


def test_each_number_of_rows_has_its_own_answer() -> None:
    padding = RowPadding()
    for _ in range(TRIED):  # they come in turns
        steps(padding, FEWEST, 2, 0.1, 0.05)
        steps(padding, 7, 2, 0.1, 0.2)
    assert all(steps(padding, FEWEST, 10, 0.1, 0.05))
    assert not any(steps(padding, 7, 10, 0.1, 0.2))


def test_one_slow_step_decides_nothing() -> None:
    padding = RowPadding()
    assert not padding.pads(3)
    padding.measured(3, padded=False, seconds=50.0)
    steps(padding, 3, 2 * TRIED - 1, 0.1, 0.1)
    assert not padding.pads(3)


def test_after_a_while_the_machine_may_have_changed() -> None:
    padding = RowPadding()
    steps(padding, 3, 2 * TRIED, 0.1, 0.05)
    assert all(steps(padding, 3, AGAIN, 0.1, 0.05))
    assert steps(padding, 3, 2 * TRIED, 0.1, 0.2) == [False, True] * TRIED
    assert not any(steps(padding, 3, 10, 0.1, 0.2))


def test_a_step_that_nobody_asked_for_is_not_counted() -> None:
    padding = RowPadding()
    padding.measured(3, padded=True, seconds=0.1)
    assert not padding.pads(3)


def test_where_it_never_finds_room_nothing_is_decided_and_little_kept() -> None:
    padding = RowPadding()
    for _ in range(10 * TRIED):
        padding.pads(3)
        padding.measured(3, padded=False, seconds=0.1)
    assert padding.pads(3)
    assert steps(padding, 3, TRIED, 0.1, 0.2) == [True] * TRIED
    assert not padding.pads(3)
