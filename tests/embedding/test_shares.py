"""Sharing a batch out: nothing is lost, no context gets too much, and none has much more to do than it must."""

from hypothesis import given
from hypothesis import strategies as st

from engine.embedding.shares import share_out

SIZES = st.lists(st.integers(1, 40), max_size=40)
ROOMS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 8)), min_size=1, max_size=5)


@given(SIZES, ROOMS)
def test_each_text_is_in_one_share_or_left(sizes: list[int], rooms: list[tuple[int, int]]) -> None:
    shares, left = share_out(sizes, rooms)
    assert sorted([*left, *(place for share in shares for place in share)]) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in (*shares, left))


@given(SIZES, ROOMS)
def test_no_context_gets_more_than_it_takes(sizes: list[int], rooms: list[tuple[int, int]]) -> None:
    shares, left = share_out(sizes, rooms)
    loads = [sum(sizes[place] for place in share) for share in shares]
    for share, load, (tokens, texts) in zip(shares, loads, rooms, strict=True):
        assert load <= tokens
        assert len(share) <= texts
        if len(share) < texts:
            assert all(load + sizes[place] > tokens for place in left)


@given(SIZES, st.integers(1, 5))
def test_the_work_is_even(sizes: list[int], n_contexts: int) -> None:
    shares, left = share_out(sizes, [(10_000, 100)] * n_contexts)
    assert not left
    most = max(sum(sizes[place] for place in share) for share in shares)
    ideal = max([sum(sizes) / n_contexts, *sizes])
    assert most <= ideal + max(sizes, default=0) * (n_contexts - 1) / n_contexts
