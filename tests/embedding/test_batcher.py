"""Which texts share a batch: turns, room, pieces."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.embedding.batcher import Batcher, Planned
from engine.embedding.requests import EmbeddingRequest
from tests.embedding.fake_embedder import make_info


def request(name: str, *sizes: int) -> EmbeddingRequest:
    return EmbeddingRequest(id=name, texts=[[text] * size for text, size in enumerate(sizes)])


def shown(planned: Sequence[Planned]) -> list[tuple[str, int, int]]:
    """(request, text, tokens) of each entry."""
    return [(entry.job.request.id, entry.text, len(entry.piece.tokens)) for entry in planned]


def all_batches(batcher: Batcher, budget: int | None = None) -> list[list[tuple[str, int, int]]]:
    found = []
    while batcher:
        planned = batcher.plan(budget)
        batcher.computed(planned)
        found.append(shown(planned))
    return found


def test_a_batch_takes_whole_texts_until_it_is_full() -> None:
    batcher = Batcher(make_info(n_batch=10))
    batcher.add(request("a", 4, 4, 4, 2))
    assert all_batches(batcher) == [[("a", 0, 4), ("a", 1, 4)], [("a", 2, 4), ("a", 3, 2)]]


def test_a_batch_takes_no_more_texts_than_there_are_sequences() -> None:
    batcher = Batcher(make_info(n_batch=100, n_seqs=2))
    batcher.add(request("a", 1, 1, 1))
    assert [len(batch) for batch in all_batches(batcher)] == [2, 1]


def test_requests_take_turns() -> None:
    batcher = Batcher(make_info(n_batch=6, n_seqs=8))
    batcher.add(request("many", *[2] * 6))
    batcher.add(request("one", 2))
    first, *_ = all_batches(batcher)
    assert first == [("many", 0, 2), ("one", 0, 2), ("many", 1, 2)]


def test_a_large_text_is_the_first_of_the_next_batch() -> None:
    batcher = Batcher(make_info(n_batch=10, n_seqs=8))
    batcher.add(request("small", 3, 3, 3, 3))
    batcher.add(request("large", 9))
    assert all_batches(batcher) == [
        [("small", 0, 3), ("small", 1, 3), ("small", 2, 3)],
        [("large", 0, 9)],
        [("small", 3, 3)],
    ]


def test_a_text_that_may_not_be_split_is_computed_alone_whatever_its_size() -> None:
    batcher = Batcher(make_info(n_batch=10))
    batcher.add(request("a", 30, 4))
    assert all_batches(batcher, budget=5) == [[("a", 0, 30)], [("a", 1, 4)]]


def test_a_long_text_is_split_and_shares_its_batches() -> None:
    batcher = Batcher(make_info(n_batch=10, splittable=True))
    batcher.add(request("long", 25))
    first = batcher.plan()
    batcher.computed(first)
    assert shown(first) == [("long", 0, 10)]
    assert not first[0].complete
    batcher.add(request("short", 4))
    second = batcher.plan()
    batcher.computed(second)
    assert shown(second) == [("long", 0, 5), ("short", 0, 4)], "half of the batch where others wait"
    assert second[0].piece.start == 10
    assert second[0].piece.seq == first[0].piece.seq
    assert second[1].piece.seq != first[0].piece.seq, "the cells of the text in pieces stay held"
    assert all_batches(batcher) == [[("long", 0, 10)]]


def test_the_budget_bounds_the_batch() -> None:
    batcher = Batcher(make_info(n_batch=100, n_seqs=50))
    batcher.add(request("a", *[5] * 10))
    assert [len(batch) for batch in all_batches(batcher, budget=17)] == [3, 3, 3, 1]


def test_what_came_to_nothing_is_next_again_in_the_same_order() -> None:
    batcher = Batcher(make_info(n_batch=8, n_seqs=8))
    batcher.add(request("a", 2, 2, 2))
    batcher.add(request("b", 2, 2))
    planned = batcher.plan()
    batcher.undone(planned)
    assert shown(batcher.plan()) == shown(planned)


def test_a_removed_request_gives_up_the_sequence_of_its_text_in_pieces() -> None:
    batcher = Batcher(make_info(n_batch=10, splittable=True))
    job = batcher.add(request("long", 25))
    planned = batcher.plan()
    batcher.computed(planned)
    assert batcher.remove(job) == planned[0].piece.seq
    assert not batcher
    other = batcher.add(request("other", 3))
    assert batcher.remove(other) is None


@pytest.mark.parametrize("splittable", [True, False])
@given(
    sizes=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=5),
    budgets=st.lists(st.none() | st.integers(1, 20), min_size=1, max_size=5),
    lost=st.sets(st.integers(0, 30)),
)
def test_every_text_is_computed_once_and_in_order(
    sizes: list[list[int]], budgets: list[int | None], lost: set[int], splittable: bool
) -> None:
    """Whatever the sizes, the budgets and the batches that come to nothing."""
    info = make_info(splittable=splittable)
    batcher = Batcher(info)
    for number, texts in enumerate(sizes):
        batcher.add(request(str(number), *texts))
    done: dict[tuple[str, int], int] = {}
    turn = 0
    while batcher:
        planned = batcher.plan(budgets[turn % len(budgets)])
        assert planned, "nothing is planned though texts wait"
        assert len(planned) <= info.n_seqs
        assert sum(len(entry.piece.tokens) for entry in planned) <= info.n_batch or len(planned) == 1
        turn += 1
        if turn in lost:
            batcher.undone(planned)
            continue
        for entry in planned:
            key = entry.job.request.id, entry.text
            assert done.get(key, 0) == entry.piece.start
            done[key] = entry.piece.start + len(entry.piece.tokens)
            assert entry.complete == (done[key] == len(entry.job.request.texts[entry.text]))
        batcher.computed(planned)
    assert done == {(str(n), text): size for n, texts in enumerate(sizes) for text, size in enumerate(texts)}
