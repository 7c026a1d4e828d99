"""The trees of blocks in host memory: what comes back, what is cut where, what goes first."""

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.text import host_cache
from engine.text.adapters import AdapterSet
from engine.text.host_block import block_end
from tests.engine.rows import lenient
from tests.engine.test_media import chunk

KEYS: Final[tuple[AdapterSet, ...]] = ((), ((0, 1.0),))
SIZE: Final = 4
HostCache = lenient(host_cache.HostCache)
token_lists = st.lists(st.integers(0, 1), max_size=14)


def fill(cache: HostCache, tokens: Sequence[int], key: AdapterSet = (), first: int = 0) -> None:
    """Keep what is missing of ``tokens`` from ``first`` on; a token's state is the byte of its value."""
    for start, end in cache.missing(tokens, first, key):
        cache.put(tokens[:end], start, bytes(t % 256 for t in tokens[start:end]), key)


def read(cache: HostCache, tokens: Sequence[int], held: int, key: AdapterSet = ()) -> bytes:
    """What can be brought back behind the first ``held`` tokens, as it would be: block by block."""
    upto, found = cache.reach(tokens, held, key), b""
    while held < upto:
        block = cache.block_at(tokens, held, key)
        assert block is not None, "reached, but not there"
        (node, end) = block
        assert held < end <= len(tokens)
        found += bytes(memoryview(node.state))[held - node.start : end - node.start]
        held = end
    return found


def test_a_prompt_comes_back_as_far_as_it_is_the_same() -> None:
    cache = HostCache(1000, SIZE)
    fill(cache, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert read(cache, [1, 2, 3, 4, 5, 6, 0, 8, 9], 0) == bytes([1, 2, 3, 4, 5, 6])
    assert read(cache, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 3) == bytes([4, 5, 6, 7, 8, 9])
    assert read(cache, [2, 2, 3], 0) == b""
    assert cache.n_tokens == cache.n_bytes == 9


def test_what_the_kv_cache_holds_need_not_be_here() -> None:
    cache = HostCache(1000, SIZE)
    fill(cache, list(range(12)), first=8)
    assert cache.n_bytes == 4
    assert cache.reach(list(range(12)), 0) == 0, "the first blocks are nowhere"
    assert cache.reach(list(range(12)), 7) == 7
    assert read(cache, list(range(12)), 9) == bytes([9, 10, 11])


def test_a_longer_prompt_replaces_the_short_block_at_its_end() -> None:
    cache = HostCache(1000, SIZE)
    fill(cache, [1, 2, 3, 4, 5])
    assert cache.missing([1, 2, 3, 4, 5, 6], 0) == [(4, 6)]
    fill(cache, [1, 2, 3, 4, 5, 6])
    assert cache.n_bytes == 6
    assert cache.missing([1, 2, 3, 4, 5], 0) == [], "a part of a block needs no copy of its own"


def test_the_one_that_was_not_used_longest_goes_first_and_its_end_before_its_beginning() -> None:
    cache = HostCache(16, SIZE)
    first, second = [1] * 8, [2] * 8
    fill(cache, first)
    fill(cache, second)
    assert cache.reach(first, 0) == 8
    fill(cache, [3] * 4)
    assert cache.reach(second, 0) == 4
    assert cache.reach(first, 0) == 8
    cache.check_integrity()


def test_a_state_that_is_larger_than_all_is_not_kept() -> None:
    cache = HostCache(3, SIZE)
    assert not cache.put([1, 2, 3, 4], 0, b"1234")
    cache.check_integrity()
    assert cache.put([1, 2, 3], 0, b"123")


def test_a_block_that_was_found_useless_is_not_found_again() -> None:
    cache = HostCache(1000, SIZE)
    fill(cache, list(range(12)))
    block, _ = cache.block_at(list(range(12)), 5) or pytest.fail("it was kept")
    cache.drop(block)
    cache.check_integrity()
    assert cache.reach(list(range(12)), 0) == 4
    assert cache.reach(list(range(12)), 8) == 12
    last, _ = cache.block_at(list(range(12)), 8) or pytest.fail("it was kept")
    cache.drop(last)
    cache.drop(last)
    cache.check_integrity()
    assert cache.n_bytes == 4


def test_erasing_leaves_what_others_need() -> None:
    cache = HostCache(1000, SIZE)
    fill(cache, [1, 2, 3, 4, 5, 6])
    fill(cache, [1, 2, 3, 4, 7, 8])
    cache.erase([1, 2, 3, 4, 5, 6])
    assert cache.reach([1, 2, 3, 4, 5, 6], 0) == 4
    assert cache.reach([1, 2, 3, 4, 7, 8], 0) == 6
    cache.erase([1, 2, 3, 4, 7, 8])
    cache.check_integrity()
    assert (cache.n_bytes, cache.n_tokens) == (0, 0)


@given(st.lists(st.sampled_from([1, 2, 6, 11]), max_size=8), st.integers(1, 9))
def test_no_block_cuts_a_medium_and_common_beginnings_are_cut_alike(parts: list[int], size: int) -> None:
    tokens: list[int] = []
    ends = {0}
    for number, length in enumerate(parts):
        tokens += [number] if length == 1 else chunk("x", length).tokens()
        ends.add(len(tokens))
    start = 0
    while start < len(tokens):
        end = block_end(tokens, start, size)
        assert end in ends
        assert end == len(tokens) or end - start >= size
        longer = [*tokens, *range(50)]
        assert end == len(tokens) or block_end(longer, start, size) == end
        start = end


class HostMachine(RuleBasedStateMachine):
    """Random use; what comes back must be the state of just these tokens."""

    @initialize(limit=st.sampled_from([3, 9, 20, 1000]))
    def start(self, limit: int) -> None:
        self.cache = HostCache(limit, SIZE)
        self.limit = limit

    @rule(tokens=token_lists, first=st.integers(0, 12), key=st.sampled_from(KEYS))
    def put(self, tokens: list[int], first: int, key: AdapterSet) -> None:
        fill(self.cache, tokens, key, first)
        for start, _ in self.cache.missing(tokens, first, key):
            assert self.limit < 16, f"the block at {start} was just kept, and there is room for all"

    @rule(tokens=token_lists, held=st.integers(0, 10), key=st.sampled_from(KEYS))
    def get(self, tokens: list[int], held: int, key: AdapterSet) -> None:
        held = min(held, len(tokens))
        found = read(self.cache, tokens, held, key)
        assert list(found) == tokens[held : held + len(found)], "the state of other tokens"

    @rule(tokens=token_lists, key=st.sampled_from(KEYS))
    def erase(self, tokens: list[int], key: AdapterSet) -> None:
        self.cache.erase(tokens, key)

    @rule(tokens=token_lists, position=st.integers(0, 12), key=st.sampled_from(KEYS))
    def drop(self, tokens: list[int], position: int, key: AdapterSet) -> None:
        found = self.cache.block_at(tokens, position, key)
        if found is not None:
            self.cache.drop(found[0])
            again = self.cache.block_at(tokens, position, key)
            assert again is None or again[0] is not found[0], "a sibling may have the same tokens, this one is gone"

    @invariant()
    def the_books_agree(self) -> None:
        self.cache.check_integrity()
        assert self.cache.n_bytes == self.cache.n_tokens <= self.limit, "a token's state is one byte here"


TestHostMachine = HostMachine.TestCase
TestHostMachine.settings = settings(max_examples=100, stateful_step_count=40)
