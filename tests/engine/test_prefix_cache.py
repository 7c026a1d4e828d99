"""The radix tree against brute force on the fake KV cache."""

from collections.abc import Sequence
from typing import Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.text import prefix_cache
from engine.text.adapters import AdapterSet
from engine.text.returns import Returns
from engine.text.tokens import common_prefix, row
from tests.engine.fake_backend import Cell, FakeKv
from tests.engine.rows import lenient

PrefixCache = lenient(prefix_cache.PrefixCache)

# Few different tokens and short lists: branches, splits and full matches all happen often.
KEYS: Final[tuple[AdapterSet, ...]] = ((), ((0, 1.0),))
token_lists = st.lists(st.integers(0, 2), max_size=12)


def naive_common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


@given(st.integers(0, 300), st.lists(st.integers(0, 1), max_size=5), st.lists(st.integers(0, 1), max_size=5))
def test_common_prefix_is_that_of_the_naive_loop(n_same: int, tail_a: list[int], tail_b: list[int]) -> None:
    same = [i % 7 for i in range(n_same)]
    assert common_prefix(row(same + tail_a), row(same + tail_b)) == naive_common_prefix(same + tail_a, same + tail_b)


def test_trees_that_have_become_empty_are_forgotten() -> None:
    """Each scale of an adapter is a set of its own, and clients choose them."""
    kv = FakeKv(100)
    cache = PrefixCache(4, kv)
    for number in range(1, 200):
        key = ((0, float(number)),)
        assert cache.match([1, 2], key) == 0
        seq = cache.attach([1, 2], 0, key)
        for position, token in enumerate([1, 2]):
            kv.cells.append(Cell(token, position, {seq}, key))
        cache.extend(seq, [1, 2])
        cache.release(seq)
    assert len(cache._roots) <= 5, "one for each id, and what was looked for last"
    cache.check_integrity()


@given(token_lists, token_lists)
def test_common_prefix_of_any_two_lists(a: list[int], b: list[int]) -> None:
    assert common_prefix(row(a), row(b)) == naive_common_prefix(a, b)


@attrs.define
class Id:
    """What an id must hold: ``tokens``, of which ``n_tree`` are in the tree of ``key`` and the rest is its own."""

    tokens: list[int]
    n_tree: int
    key: AdapterSet


class CacheMachine(RuleBasedStateMachine):
    """Random use as the scheduler makes of it; the KV cache itself refuses holes, doubles and moved shared cells."""

    @initialize(n_seqs=st.integers(1, 5))
    def start(self, n_seqs: int) -> None:
        self.n_seqs = n_seqs
        self.kv = FakeKv(10_000)
        self.cache = PrefixCache(n_seqs, self.kv)
        self.active: dict[int, Id] = {}
        self.left: dict[int, list[int]] = {}  # idle id → its tokens when it was released

    # --- brute force ---

    def held(self, key: AdapterSet) -> dict[int, list[int]]:
        """Id → its tokens in the tree of ``key``, as the cells say."""
        spans = self.cache.spans()
        return {seq: self.kv.tokens(seq)[:n] for seq, n in spans.items() if n and self.key_of(seq) == key}

    def key_of(self, seq: int) -> AdapterSet:
        (key,) = {cell.adapters for cell in self.kv.of(seq)}
        return key

    def idle_cells(self) -> int:
        return sum(1 for cell in self.kv.cells if not cell.seqs & self.active.keys())

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.active)))

    # --- rules ---

    def attach(self, tokens: list[int], length: int, key: AdapterSet) -> int:
        longest = max((naive_common_prefix(tokens, mine) for mine in self.held(key).values()), default=0)
        assert self.cache.match(tokens, key) == longest
        seq = self.cache.attach(tokens, length, key)
        assert seq not in self.active
        assert 0 <= seq < self.n_seqs
        assert self.cache.length(seq) == length
        assert self.kv.tokens(seq) == tokens[:length]
        assert self.cache.match(tokens, key) >= length
        self.left.pop(seq, None)
        self.active[seq] = Id(tokens[:length], length, key)
        return seq

    def grow(self, seq: int, tokens: list[int]) -> None:
        mine = self.active[seq]
        for token in tokens:
            self.kv.cells.append(Cell(token, len(mine.tokens), {seq}, mine.key))
            mine.tokens.append(token)

    def extend(self, seq: int, count: int) -> None:
        mine = self.active[seq]
        given_away = mine.tokens[mine.n_tree : mine.n_tree + count]
        self.cache.extend(seq, given_away)
        mine.n_tree += len(given_away)
        assert self.cache.match(mine.tokens, mine.key) >= mine.n_tree

    @precondition(lambda self: len(self.active) < self.n_seqs)
    @rule(tokens=token_lists, share=st.sampled_from([12, 12, 3, 0]), key=st.sampled_from(KEYS), data=st.data())
    def begin(self, tokens: list[int], share: int, key: AdapterSet, data: st.DataObject) -> None:
        """A request attaches, mostly to all that is cached, computes the rest and mostly shares it."""
        match = self.cache.match(tokens, key)
        length = data.draw(st.one_of(st.just(match), st.integers(0, match)))
        seq = self.attach(tokens, length, key)
        self.grow(seq, tokens[length:])
        self.extend(seq, share)

    @precondition(lambda self: self.active)
    @rule(tokens=token_lists, share=st.integers(0, 12), data=st.data())
    def generate(self, tokens: list[int], share: int, data: st.DataObject) -> None:
        seq = self.pick(data)
        self.grow(seq, tokens)
        self.extend(seq, share)

    @precondition(lambda self: self.active)
    @rule(share=st.booleans(), data=st.data())
    def release(self, share: bool, data: st.DataObject) -> None:
        seq = self.pick(data)
        if share:
            self.extend(seq, len(self.active[seq].tokens))
        mine = self.active.pop(seq)
        self.kv.remove(seq, mine.n_tree, None)
        self.cache.release(seq)
        assert self.cache.match(mine.tokens[: mine.n_tree], mine.key) == mine.n_tree, "releasing loses nothing"
        self.left[seq] = mine.tokens[: mine.n_tree]

    @precondition(lambda self: self.idle_cells())
    @rule(n_cells=st.sampled_from([1, 2, 3, 5, 8, 100]))
    def evict(self, n_cells: int) -> None:
        idle, before = self.idle_cells(), len(self.kv.cells)
        freed = self.cache.evict(n_cells)
        assert freed == min(n_cells, idle)
        assert len(self.kv.cells) == before - freed

    @rule(tokens=token_lists, key=st.sampled_from(KEYS))
    def erase(self, tokens: list[int], key: AdapterSet) -> None:
        """What is erased is no longer cached, but for what a running request or a longer prompt holds."""
        before = {seq: self.held(key)[seq] for seq in self.held(key)}
        match = self.cache.match(tokens, key)
        self.cache.erase(tokens[:match], key)
        kept = [mine for seq, mine in before.items() if seq in self.active]
        kept += [mine for mine in before.values() if naive_common_prefix(mine, tokens[:match]) < len(mine)]
        longest = max((naive_common_prefix(tokens[:match], mine) for mine in kept), default=0)
        assert self.cache.match(tokens[:match], key) == longest
        others = {tuple(mine) for mine in kept}
        assert all(self.cache.match(list(mine), key) == len(mine) for mine in others), "erased for somebody else"

    @precondition(lambda self: self.active)
    @rule(data=st.data(), keep=st.integers(0, 8))
    def make_private(self, data: st.DataObject, keep: int) -> None:
        seq = self.pick(data)
        mine = self.active[seq]
        held = self.held(mine.key)
        shared = any(
            naive_common_prefix(held[o], mine.tokens[: mine.n_tree]) > keep
            for o in self.active
            if o != seq and o in held
        )
        spans = self.cache.spans()
        done = self.cache.make_private(seq, keep)
        assert done == (not shared or mine.n_tree <= keep)
        if not done:
            assert self.cache.spans() == spans
            return
        mine.n_tree = min(mine.n_tree, keep)
        assert self.cache.length(seq) == mine.n_tree
        assert all(cell.seqs == {seq} for cell in self.kv.of(seq, keep)), "cells that would move for others too"
        # What it is for: drop a range and close the gap.
        gone = (len(mine.tokens) - keep) // 2
        if gone > 0:
            self.kv.remove(seq, keep, keep + gone)
            self.kv.shift(seq, keep + gone, None, -gone)
            del mine.tokens[keep : keep + gone]

    # --- always ---

    @invariant()
    def the_books_agree_with_the_cells(self) -> None:
        self.cache.check_integrity()
        private = sum(len(mine.tokens) - mine.n_tree for mine in self.active.values())
        assert len(self.kv.cells) == self.cache.cells + private
        assert self.cache.idle_cells == self.idle_cells()
        assert all(0 <= seq < self.n_seqs for cell in self.kv.cells for seq in cell.seqs)

    @invariant()
    def every_id_holds_its_tokens(self) -> None:
        spans = self.cache.spans()
        for seq in range(self.n_seqs):
            assert self.cache.is_active(seq) == (seq in self.active)
            tokens = self.kv.tokens(seq)
            assert len({cell.adapters for cell in self.kv.of(seq)}) <= 1, "cells of two trees"
            if seq in self.active:
                assert tokens == self.active[seq].tokens
                assert spans[seq] == self.active[seq].n_tree
            else:
                assert len(tokens) == spans.get(seq, 0)
                assert tokens == self.left.get(seq, [])[: len(tokens)], "an idle id holds something else"


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=100, stateful_step_count=40)


def cached(cache: PrefixCache, kv: FakeKv, tokens: list[int]) -> None:
    """Let a request compute ``tokens`` and end."""
    reuse = cache.match(tokens)
    seq = cache.attach(tokens, reuse)
    kv.cells.extend(Cell(token, reuse + i, {seq}) for i, token in enumerate(tokens[reuse:]))
    cache.extend(seq, tokens[reuse:])
    cache.release(seq)


@given(st.lists(st.integers(0, 5), max_size=20))
def test_the_least_recently_used_goes_first(uses: list[int]) -> None:
    kv = FakeKv(100)
    cache = PrefixCache(8, kv)
    prompts = [[i, 7, 8, 9] for i in range(6)]
    order: list[int] = []
    for use in [*range(6), *uses]:
        cached(cache, kv, prompts[use])
        order = [i for i in order if i != use] + [use]
    while order:
        assert [cache.match(prompts[i]) for i in order] == [4] * len(order)
        gone = order.pop(0)
        assert cache.evict(4) == 4
        assert cache.match(prompts[gone]) == 0
        cache.check_integrity()


def test_clear_drops_what_is_idle_and_nothing_else() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(4, kv)
    cached(cache, kv, [1, 2, 3, 4])
    seq = cache.attach([1, 2], 2)
    cache.clear()
    assert (cache.cells, kv.tokens(seq)) == (2, [1, 2])


def test_a_branch_in_use_outlives_its_older_sibling_and_eviction_cuts_from_the_end() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(4, kv)
    old, new = [1, 1, 1, 1, 5, 5, 5], [1, 1, 1, 1, 6, 6, 6]
    cached(cache, kv, old)
    cached(cache, kv, new)
    assert cache.cells == 10, "the common prefix is stored once"
    assert cache.evict(2) == 2
    assert (cache.match(old), cache.match(new)) == (5, 7)
    assert cache.evict(3) == 3
    assert (cache.match(old), cache.match(new)) == (4, 5)


def test_ids_that_run_out_are_taken_from_the_least_recently_used() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(2, kv)
    cached(cache, kv, [1, 1])
    cached(cache, kv, [2, 2])
    cache.attach([3], 0)
    assert cache.match([1, 1]) == 0
    assert cache.match([2, 2]) == 2


def test_the_last_id_takes_over_just_what_it_asks_for() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(1, kv)
    cached(cache, kv, [1, 2, 3, 4])
    seq = cache.attach([1, 2, 9], 2)
    assert kv.tokens(seq) == [1, 2]
    assert len(kv.cells) == cache.cells == 2


def test_a_request_that_only_repeats_what_is_cached_leaves_no_second_id() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(4, kv)
    cached(cache, kv, [1, 2, 3, 4])
    cached(cache, kv, [1, 2, 3])
    cached(cache, kv, [1, 2, 3, 4])
    assert list(cache.spans().values()) == [4]
    assert len(kv.cells) == 4


def test_two_that_computed_the_same_keep_one_copy() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(4, kv)
    for seq in (cache.attach([], 0), cache.attach([], 0)):
        kv.cells.extend(Cell(token, i, {seq}) for i, token in enumerate([1, 2, 3]))
    assert len(kv.cells) == 6
    for seq in (0, 1):
        cache.extend(seq, [1, 2, 3])
    assert len(kv.cells) == cache.cells == 3
    assert kv.tokens(0) == kv.tokens(1) == [1, 2, 3]


def test_what_came_back_and_what_was_too_old_is_counted_in_cells() -> None:
    kv = FakeKv(20_000)
    cache = PrefixCache(4, kv)
    assert cache.returns.share == 1.0, "nothing is known yet"
    cached(cache, kv, [1] * 4096)
    cached(cache, kv, [2] * 2048)
    cached(cache, kv, [1] * 4096)
    cache.clock = 100
    cached(cache, kv, [3])
    cache.expire(100)
    assert cache.cells == 4096 + 2048 + 1, "nothing is older than that"
    cache.expire(99)
    assert cache.cells == 1
    gone = 4096 + 2048
    assert cache.returns.share == (4096 + 4096 + gone / 2) / (4096 + 4096 + gone)


def test_what_makes_room_does_not_count_as_too_old() -> None:
    kv = FakeKv(20_000)
    cache = PrefixCache(4, kv)
    cached(cache, kv, [1] * 5000)
    cache.clear()
    assert cache.returns.share == 1.0


def test_what_was_long_ago_counts_less() -> None:
    returns = Returns()
    for _ in range(1000):
        returns.went(5000)
    assert returns.share < 0.51
    for _ in range(1000):
        returns.came_back(5000)
    assert returns.share > 0.9
    returns.went(1)
    for _ in range(30):
        returns.went(100_000)
    assert returns.share < 0.51, "a long good time is forgotten too"
