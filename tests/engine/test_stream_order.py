"""Sequences that run get streams that follow on each other, once the gaps have cost as much as that."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.backend import Run
from engine.text.plan import PlannedRun
from engine.text.stream_order import GAP, MOST, PATIENCE, StreamOrder
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.table import Table

NOBODY: Any = None  # whose run it is does not matter


class Cells:
    """So many cells of each sequence; which of them changed streams."""

    def __init__(self, cells: Iterable[int]) -> None:
        self.cells = list(cells)
        self.stream = list(range(len(self.cells)))
        self.exchanged: list[tuple[int, int]] = []
        self.n_looks = 0  # at a sequence
        self.is_moving = False

    def span(self, seq: int) -> tuple[int, int]:
        self.n_looks += 1
        return (0, self.cells[seq] - 1) if self.cells[seq] else (-1, -1)

    def exchange(self, a: int, b: int) -> bool:
        if self.is_moving:
            return False
        self.exchanged.append((a, b))
        self.stream[a], self.stream[b] = self.stream[b], self.stream[a]
        return True

    @property
    def copied(self) -> int:
        return sum(self.cells[a] + self.cells[b] for a, b in self.exchanged)


def runs(decodes: Iterable[int], prompts: Iterable[int] = ()) -> list[PlannedRun]:
    return [
        *(PlannedRun(NOBODY, Run(seq, 5, [7], True)) for seq in decodes),
        *(PlannedRun(NOBODY, Run(seq, 5, [7] * 64, False)) for seq in prompts),
    ]


def steps(order: StreamOrder, count: int, decodes: Iterable[int], prompts: Iterable[int] = ()) -> list[int]:
    """So many steps; the ids in the order of the last batch."""
    for _ in range(count):
        order.arrange(batch := runs(decodes, prompts))
    return [planned.run.seq for planned in batch]


def test_what_follows_on_each_other_stays_and_is_sorted() -> None:
    memory = Cells([100] * 8)
    order = StreamOrder(8, memory)
    assert steps(order, 50, [4, 2, 3]) == [2, 3, 4]
    assert steps(order, 50, [6]) == [6]
    order.arrange([])
    assert not memory.exchanged


def test_two_change_streams_once_the_gap_has_cost_as_much() -> None:
    memory = Cells([4000, GAP, 1500 + GAP])
    order = StreamOrder(3, memory)
    assert steps(order, 3, [0, 2]) == [0, 2]
    assert not memory.exchanged
    assert steps(order, 1, [0, 2]) == [0, 2]
    assert memory.exchanged == [(2, 1)]
    assert steps(order, 50, [0, 2]) == [0, 2]
    assert steps(order, 1, [0, 1, 2]) == [0, 2, 1]
    assert len(memory.exchanged) == 1


def test_streams_that_hold_nothing_are_had_for_nothing() -> None:
    memory = Cells([500, 0, 0, 0])
    assert steps(StreamOrder(4, memory), 1, [0, 3]) == [0, 3]
    assert memory.exchanged == [(3, 1)]


def test_the_row_that_is_cheapest_to_clear_is_taken() -> None:
    memory = Cells([5000, 10, 10, 10, 10, 100, 100, 100])
    order = StreamOrder(8, memory)
    assert steps(order, 3, [0, 5, 6, 7]) == [0, 5, 6, 7]
    assert sorted(memory.exchanged) == [(5, 1), (6, 2), (7, 3)]
    assert memory.stream[:1] + memory.stream[5:] == [0, 1, 2, 3]


def test_a_change_that_has_to_wait_is_made_in_the_next_step() -> None:
    memory = Cells([500, 0, 0, 0])
    memory.is_moving = True
    order = StreamOrder(4, memory)
    assert steps(order, 2, [0, 3]) == [0, 3]
    assert steps(order, 1, [0, 1, 3]) == [0, 1, 3]
    memory.is_moving = False
    assert steps(order, 1, [0, 3]) == [0, 3]
    assert memory.exchanged == [(3, 1)]
    assert steps(order, 1, [0, 1, 3]) == [0, 3, 1]


def test_one_exchange_a_step() -> None:
    memory = Cells([5000, 10, 10, 10, 10, 100, 100, 100])
    order = StreamOrder(8, memory)
    for count in (1, 2, 3, 3):
        steps(order, 1, [0, 5, 6, 7])
        assert len(memory.exchanged) == count


@pytest.mark.parametrize(("cells", "moves"), [(MOST - 10, True), (MOST, False)])
def test_nobody_waits_for_very_long_ones(cells: int, moves: bool) -> None:
    memory = Cells([100_000, 10, cells])
    steps(StreamOrder(3, memory), 100, [0, 2])
    assert bool(memory.exchanged) is moves


def test_what_cannot_be_had_is_not_saved_up_for_without_end() -> None:
    memory = Cells([7000, 0, 7000, 0, 0, 0, 0])
    order = StreamOrder(7, memory)
    steps(order, 100, [0, 2])
    memory.cells = [2900] * 7
    steps(order, 1, [0, 2, 4, 6])
    assert not memory.exchanged
    steps(order, 1, [0, 2, 4, 6])
    assert len(memory.exchanged) == 1


def test_the_price_is_looked_up_when_it_may_be_paid() -> None:
    memory = Cells([9000, 100, 4000])
    order = StreamOrder(3, memory)
    steps(order, 5, [0, 2])
    assert memory.exchanged == [(2, 1)]
    assert memory.n_looks == 2 * 3
    memory = Cells([9000, 100, 7000])
    order = StreamOrder(3, memory)
    steps(order, 8 + PATIENCE, [0, 2])
    assert memory.n_looks == 2 * 3
    memory.cells[0] = 3000
    steps(order, PATIENCE, [0, 2])
    assert memory.exchanged == [(0, 1)]


@pytest.mark.parametrize(
    ("decodes", "prompts"),
    [([0, 1], [3]), ([0, 2], [1]), ([], [0, 3]), ([2], [0]), ([1, 2], [0, 4])],
    ids=["apart", "between", "prompts alone", "before", "two"],
)
def test_prompts_need_a_pass_of_their_own_anywhere(decodes: list[int], prompts: list[int]) -> None:
    memory = Cells([0] * 5)
    steps(StreamOrder(5, memory), 50, decodes, prompts)
    assert not memory.exchanged


@given(st.data())
def test_copies_are_paid_for_and_come_to_an_end(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 9))
    memory = Cells(data.draw(st.lists(st.integers(0, 4000), min_size=n, max_size=n)))
    order = StreamOrder(n, memory)
    ids = st.sets(st.integers(0, n - 1))
    paid = 0
    for _ in range(data.draw(st.integers(1, 12))):
        decodes = data.draw(ids)
        prompts = data.draw(ids) - decodes
        for _ in range(data.draw(st.integers(1, 6))):
            streams = sorted((memory.stream[seq], seq in decodes) for seq in decodes | prompts)
            paid += GAP * _passes(streams)
            batch = runs(decodes, prompts)
            order.arrange(batch)
            order_now = [memory.stream[planned.run.seq] for planned in batch]
            assert order_now == sorted(order_now)
            assert memory.copied <= paid
        paid -= memory.copied
        memory.exchanged.clear()
        memory.cells = [data.draw(st.integers(0, 4000)) if data.draw(st.booleans()) else c for c in memory.cells]
    decodes = data.draw(ids)
    memory.cells = [min(cells, MOST // 2) for cells in memory.cells]
    steps(order, 100 * n, decodes)
    found = sorted(memory.stream[seq] for seq in decodes)
    assert not found or found == list(range(found[0], found[0] + len(found)))


def _passes(streams: list[tuple[int, bool]]) -> int:
    """Rows of streams that follow on each other and decode, less the first."""
    rows: list[list[bool]] = []
    last = None
    for stream, decodes in streams:
        if last is None or stream != last + 1:
            rows.append([])
        rows[-1].append(decodes)
        last = stream
    return max(0, sum(map(any, rows)) - 1)


def test_in_a_step_of_the_scheduler() -> None:
    backend = FakeBackend(kv_unified=False, n_cells=400, n_slots=4)
    table = Table(backend)
    for name in "abcd":
        table.ask(name, name * 12, 40 if name in "ad" else 3)
    table.until(lambda: table.running == ["a", "d"])
    table.step()
    table.step()
    streams = [backend.kv.stream(planned.run.seq) for planned in table.step().runs]
    assert streams[1] - streams[0] == 1
    assert backend.kv.n_exchanges == 1
    table.finish()
    for name in "ad":
        assert table.generated[name] == continuation([ord(name)] * 12, 40)
