"""The radix tree where each id has a stream of cells: what is copied, what is taken over, and what is given up."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from engine.text import stream_cache
from engine.text.copy_cost import TimedMemory
from engine.text.prefix_node import Node
from engine.text.stream_cache import LEAST_COPY, SHORT_TAIL
from tests.engine.driver import Clock, Driver
from tests.engine.fake_backend import Cell, FakeBackend, FakeStreams
from tests.engine.rows import lenient
from tests.engine.test_prefix_cache import CacheMachine, cached, naive_common_prefix

CAPACITY = 1000
StreamCache = lenient(stream_cache.StreamCache)


class StreamMachine(CacheMachine):
    """As with shared cells; the KV cache itself refuses copies that the library would abort at."""

    @initialize(n_seqs=st.integers(1, 5))
    def start(self, n_seqs: int) -> None:
        self.n_seqs = n_seqs
        self.kv = FakeStreams(CAPACITY)
        self.cache = StreamCache(n_seqs, self.kv)
        self.active = {}
        self.left = {}

    @rule()
    def evict(self) -> None:
        """What is idle goes, as a whole here, and what runs stays."""
        self.cache.clear()
        assert {seq for cell in self.kv.cells for seq in cell.seqs} <= self.active.keys()
        self.left.clear()

    @precondition(lambda self: self.active)
    @rule(data=st.data(), keep=st.integers(0, 8))
    def make_private(self, data: st.DataObject, keep: int) -> None:
        """Always done: whoever else holds the tokens has cells of his own."""
        seq = self.pick(data)
        mine = self.active[seq]
        others = {o: tokens for o, tokens in self.held(mine.key).items() if o != seq and o in self.active}
        assert self.cache.make_private(seq, keep)
        mine.n_tree = min(mine.n_tree, keep)
        assert self.cache.length(seq) == mine.n_tree
        gone = (len(mine.tokens) - keep) // 2
        if gone > 0:
            self.kv.remove(seq, keep, keep + gone)
            self.kv.shift(seq, keep + gone, None, -gone)
            del mine.tokens[keep : keep + gone]
        for tokens in others.values():
            assert self.cache.match(tokens, mine.key) == len(tokens), "somebody else lost something"

    @invariant()
    def the_books_agree_with_the_cells(self) -> None:
        self.cache.check_integrity()
        private = sum(len(mine.tokens) - mine.n_tree for mine in self.active.values())
        assert self.kv.used == self.cache.used + private
        in_use = [cell for cell in self.kv.cells if cell.seqs & self.active.keys()]
        assert len(in_use) == self.cache.used_active + private
        assert len({seq for cell in self.kv.cells for seq in cell.seqs}) <= self.n_seqs

    @invariant()
    def idle_ids_add_something(self) -> None:
        """An idle id that only repeats what others hold is better free."""
        for seq, mine in self.left.items():
            tokens = mine[: self.cache.spans().get(seq, 0)]
            others = [held for other, held in self.held(self.key_of(seq)).items() if other != seq] if tokens else []
            longest = max((naive_common_prefix(tokens, held) for held in others), default=0)
            assert not tokens or longest < len(tokens)


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(max_examples=100, stateful_step_count=40)


class Listener:
    """Hears what leaves, and looks whether it is still there."""

    def __init__(self, kv: FakeStreams) -> None:
        self.kv = kv
        self.heard: list[tuple[int, list[int]]] = []

    def leaving(self, node: Node, seq: int, first: int) -> None:
        tokens = node.path()[1].tolist()
        assert self.kv.tokens(seq)[: len(tokens)] == tokens
        self.heard.append((seq, tokens[first:]))


def test_a_running_prefix_is_copied_and_nothing_more() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(3, kv)
    prompt = list(range(40))
    first = cache.attach(prompt, 0)
    kv.cells += [Cell(token, i, {first}) for i, token in enumerate(prompt)]
    cache.extend(first, prompt)
    kv.cells.append(Cell(99, 40, {first}))  # its own
    second = cache.attach([*prompt[:30], 7], 30)
    assert second != first
    assert (kv.tokens(first), kv.tokens(second)) == ([*prompt, 99], prompt[:30])
    assert cache.used == 70
    cache.release(second)
    assert kv.tokens(second) == [], "the other one holds all of it"
    cache.check_integrity()


def test_a_conversation_goes_on_in_its_own_stream() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(4, kv)
    cached(cache, kv, [1] * 50)
    cells = list(kv.cells)
    seq = cache.attach([1] * 50 + [2] * 9, 50)
    assert kv.of(seq) == cells, "nothing was copied"


def test_a_short_tail_is_cut_off_and_a_long_one_is_kept() -> None:
    for tail, is_kept in ((SHORT_TAIL, False), (SHORT_TAIL + 1, True)):
        kv = FakeStreams(CAPACITY)
        cache = StreamCache(3, kv, listener := Listener(kv))
        cached(cache, kv, [1] * 50 + [2] * tail)
        seq = cache.attach([1] * 50 + [3] * 9, 50)
        assert kv.tokens(seq) == [1] * 50
        assert cache.match([1] * 50 + [2] * tail) == (50 + tail if is_kept else 50)
        assert listener.heard == ([] if is_kept else [(seq, [2] * tail)])
        cache.check_integrity()


def test_without_a_free_id_the_one_that_was_idle_longest_goes_and_is_heard_of() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(2, kv, listener := Listener(kv))
    cached(cache, kv, [1] * 50)
    cached(cache, kv, [2] * 60)
    seq = cache.attach([2] * 20, 20)
    assert listener.heard == [(seq, [1] * 50)]
    assert kv.tokens(seq) == [2] * 20
    assert cache.match([2] * 60) == 60, "copied, so the other one keeps it all"
    cache.check_integrity()


def test_if_that_one_holds_the_prefix_its_end_is_cut_off() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(2, kv, listener := Listener(kv))
    cached(cache, kv, [1] * 50)
    cached(cache, kv, [2] * 60)
    cells = kv.of(0)[:20]
    seq = cache.attach([1] * 20, 20)
    assert listener.heard == [(seq, [1] * 30)]
    assert kv.of(seq) == cells, "nothing was copied"
    assert (cache.match([1] * 50), cache.match([2] * 60)) == (20, 60)
    cache.check_integrity()


def test_the_source_of_a_copy_is_the_smallest_stream() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(4, kv)
    cached(cache, kv, [1] * 40 + [2] * 90)
    cached(cache, kv, [1] * 40 + [3] * 30)
    sources: list[int] = []
    copy = kv.copy
    cache._memory = type("Spy", (), {"copy": lambda _, *a: (sources.append(a[0]), copy(*a)), "remove": kv.remove})()
    cache.attach([1] * 40, 40)
    (source,) = sources
    assert kv.tokens(source)[40:] == [3] * 30


def test_a_few_tokens_are_computed_unless_a_stream_has_them_for_nothing() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(2, kv)
    few = LEAST_COPY - 1
    cached(cache, kv, [1] * 90)
    assert cache.usable([1] * 90, few) == 0
    assert cache.usable([1] * 90, LEAST_COPY) == LEAST_COPY
    cached(cache, kv, [2] * 90)
    assert cache.usable([1] * 90, few) == few, "its stream will be given up in any case"
    assert cache.usable([2] * 90, few) == 0, "that one will not"
    cache.clear()
    cached(cache, kv, [3] * few)
    assert cache.usable([3] * few, few) == few, "nothing would be copied"
    cache.clear()
    cached(cache, kv, [4] * 90)
    cache.copy_price = 0.5
    assert cache.usable([4] * 90, 44) == 0, "90 cells would be read for it"
    assert cache.usable([4] * 90, 45) == 45
    assert cache.usable([4] * 90, 0) == 0


def test_idle_ids_stay_however_old_they_are() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(2, kv)
    cached(cache, kv, [1] * 50)
    cache.clock += 1_000_000
    cache.expire(10)
    assert cache.match([1] * 50) == 50


def test_a_shift_of_one_leaves_the_others_what_they_have() -> None:
    kv = FakeStreams(CAPACITY)
    cache = StreamCache(3, kv, listener := Listener(kv))
    prompt = [1] * 50
    first = cache.attach(prompt, 0)
    kv.cells += [Cell(token, i, {first}) for i, token in enumerate(prompt)]
    cache.extend(first, prompt)
    second = cache.attach(prompt, 40)
    assert cache.make_private(first, 10)
    assert listener.heard == [(first, [1] * 10)], "what the other one does not hold"
    assert (cache.length(first), cache.length(second)) == (10, 40)
    assert cache.match(prompt) == 40
    cache.check_integrity()


def test_the_price_of_a_copy_is_what_reading_its_source_takes() -> None:
    backend, clock = FakeBackend(n_cells=400, kv_unified=False), Clock()
    backend.kv.cells += [Cell(1, i, {0}) for i in range(50)]
    memory = TimedMemory(backend, clock)
    assert memory.price(0.1) is None
    copy = backend.copy
    backend.copy = lambda *what: (clock.on(2.0), copy(*what))  # type: ignore[method-assign]
    memory.copy(0, 1, 0, 10)
    assert memory.cell == 2.0 / 50
    assert memory.price(0.1) == memory.cell / 0.1
    assert memory.price(None) is None
    memory.remove(1, 4, None)
    assert backend.kv.tokens(1) == [1] * 4


def test_what_is_dearer_to_copy_than_to_compute_is_computed() -> None:
    driver = Driver(FakeBackend(n_cells=1024, n_batch=256, kv_unified=False))
    driver.backend.before_decode = lambda runs: driver.clock.on(0.01 * sum(len(run.tokens) for run in runs))
    copy = driver.backend.copy
    driver.backend.copy = lambda *what: (driver.clock.on(5.0), copy(*what))  # type: ignore[method-assign]
    shared = "x" * 40
    driver.ask("first", shared + "a" * 90, 2)
    driver.finish()
    assert driver.ask("copied", shared + "b" * 90, 2).events == []
    driver.finish()
    assert driver.boxes["copied"].finished().timings.cache_n == 40, "nothing was known of copies"
    driver.ask("computed", shared + "c" * 90, 2)
    driver.finish()
    assert driver.boxes["computed"].finished().timings.cache_n == 0
    again = driver.ask("again", shared + "c" * 90, 2)
    driver.finish()
    assert again.finished().timings.cache_n == 129, "its own stream goes on"
