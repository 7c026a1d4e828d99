"""Batches side by side: a lane's answers wait for no other lane, and whatever ends when, each request has one event."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.embedding.backend import Piece
from engine.embedding.lanes import Lanes
from engine.embedding.requests import Embedded
from engine.embedding.worker import MOST_SECONDS, PATIENCE
from engine.errors import NativeError
from tests.embedding.fake_embedder import expected, make_info
from tests.embedding.fake_lanes import Held, with_lanes
from tests.embedding.test_worker import Bench


class LaneBench(Bench):
    """Two lanes of up to 20 tokens and 4 texts, whose share of a batch is 16; the embedder takes texts of 40."""

    def __init__(self, n_batch: int = 32, n_lanes: int = 2, max_tokens: int = 40, most_tokens: int = 20) -> None:
        info = make_info(n_batch=n_batch, n_seqs=4 * n_lanes, max_tokens=max_tokens)
        embedder, self.lanes = with_lanes(info, n_lanes, most_tokens=most_tokens)
        self.executor = Held()
        super().__init__(embedder, executor=self.executor)
        self.woken = 0
        self.worker.wake = self._wake

    def _wake(self) -> None:
        self.woken += 1

    @property
    def running(self) -> int:
        return len(self.executor.waiting)

    def steps(self) -> None:
        """As the engine thread, as long as there is something to do without waiting for a lane."""
        while self.worker.pending:
            self.step()

    def finish(self) -> None:
        self.steps()
        while self.running:
            self.executor.go()
            self.steps()

    def check_idle(self) -> None:
        super().check_idle()
        assert self.running == 0


def test_a_batch_is_shared_out_and_the_thread_does_not_wait() -> None:
    bench = LaneBench()
    texts = [[n] * (3 + n % 5) for n in range(1, 20)]
    bench.ask("a", *texts)
    bench.steps()
    assert bench.running == 2
    assert not bench.worker.pending
    assert bench.worker.computing == {"a"}
    bench.finish()
    assert bench.vectors("a") == [expected(text) for text in texts]
    assert bench.backend.batches == [], "all of it was computed on lanes"
    assert bench.woken == sum(len(lane.batches) for lane in bench.lanes) == bench.stats.decode_total
    assert bench.stats.busy_slots_total == len(texts)
    assert bench.stats.prompt_tokens_total == sum(map(len, texts))
    bench.check_idle()


def test_who_is_computed_is_answered_while_the_other_lane_computes() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10)
    bench.ask("b", [2] * 10)
    bench.steps()
    bench.executor.go(1)
    bench.step()
    assert set(bench.answers) == {"b"}
    assert bench.worker.computing == {"a"}
    bench.ask("c", [3])  # the idle lane takes it, though it is a small share
    bench.steps()
    bench.executor.go(1)
    bench.steps()
    assert bench.vectors("c") == [expected([3])]
    assert "a" not in bench.answers
    bench.finish()
    bench.check_idle()


@pytest.mark.parametrize("texts", [[[1] * 30], [[1] * 15, [2]], [[1], [2]], [[1] * 3] * 2], ids=str)
def test_what_is_not_worth_sharing_is_computed_by_all_threads(texts: list[list[int]]) -> None:
    bench = LaneBench()
    bench.ask("a", *texts)
    bench.step()
    assert bench.vectors("a") == [expected(text) for text in texts]
    assert bench.backend.batches == [[len(text) for text in texts]]
    bench.check_idle()


def test_a_text_that_no_lane_takes_waits_until_none_computes() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10, [2] * 10)
    bench.steps()
    bench.executor.go()
    bench.step()
    bench.ask("long", [3] * 40)
    bench.ask("short", [4] * 2)
    bench.steps()
    assert bench.running == 1, "the idle lane stays idle"
    assert bench.backend.batches == []
    bench.executor.go()
    bench.steps()
    assert bench.backend.batches == [[40], [2]]
    bench.finish()
    assert bench.vectors("long") == [expected([3] * 40)]
    assert bench.vectors("short") == [expected([4] * 2)]
    bench.check_idle()


def test_few_texts_wait_for_all_threads_where_many_lanes_are_idle() -> None:
    bench = LaneBench(n_batch=64, n_lanes=4)
    bench.ask("a", *[[1] * 10] * 4)
    bench.steps()
    assert bench.running == 4
    for _ in range(3):
        bench.executor.go()
    bench.steps()
    bench.ask("b", [2] * 10)
    bench.steps()
    assert bench.running == 1, "one thread of four would compute it alone"
    bench.finish()
    assert bench.backend.batches == [[10]]
    bench.check_idle()


def test_more_texts_than_an_idle_lane_takes_wait_for_its_next_batch() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10, [2] * 10)
    bench.steps()
    bench.executor.go()
    bench.step()  # one lane is idle
    bench.ask("b", *[[n] for n in range(1, 9)])
    bench.steps()
    bench.executor.go(1)
    bench.steps()
    bench.executor.go(1)
    assert bench.lanes[0].batches == [[10], [1] * 4, [1] * 4]
    bench.finish()
    assert bench.vectors("b") == [expected([n]) for n in range(1, 9)]
    bench.check_idle()


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_cancelled_while_lanes_compute_it_has_no_event(done_first: int) -> None:
    bench = LaneBench()
    bench.ask("gone", [1] * 10, [2] * 10, [3] * 10)
    bench.steps()
    for _ in range(done_first):
        bench.executor.go()
    assert bench.cancel("gone") == []
    bench.ask("gone", [7] * 9)  # the id is free again: the old texts are not its own
    bench.ask("kept", [8] * 9)
    bench.finish()
    assert bench.vectors("gone") == [expected([7] * 9)]
    assert bench.vectors("kept") == [expected([8] * 9)]
    bench.check_idle()


def test_an_abort_ends_all_lanes_and_their_texts_are_computed_again() -> None:
    bench = LaneBench()
    texts = [[n] * 10 for n in range(1, 8)]
    bench.ask("a", *texts)
    bench.steps()
    bench.executor.go()
    bench.worker.abort()
    bench.step()
    bench.worker.clear_abort()
    assert bench.backend.aborting, "the other lane has not heard of it"
    assert not bench.worker.pending, "nor gets the idle one a batch"
    bench.executor.go()
    bench.step()
    bench.worker.clear_abort()
    assert not bench.backend.aborting
    bench.finish()
    assert bench.vectors("a") == [expected(text) for text in texts]
    bench.check_idle()


def test_what_is_not_wanted_any_more_is_not_started() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10, [2] * 10)
    bench.wanted = False
    bench.step()
    assert bench.running == 0
    assert bench.worker.computing == frozenset()
    bench.wanted = True
    bench.finish()
    assert bench.vectors("a") == [expected([1] * 10), expected([2] * 10)]


def test_a_failing_lane_fails_those_in_its_batch_alone() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10, [3] * 10)
    bench.ask("b", [2] * 10)
    bench.steps()
    bench.backend.script = lambda pieces: NativeError("broken")
    bench.executor.go()
    bench.backend.script = lambda pieces: "compute"
    bench.finish()
    assert str(bench.error("a")) == "broken"
    assert bench.vectors("b") == [expected([2] * 10)]
    bench.check_idle()


def test_an_error_that_nobody_expected_ends_the_engine() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10, [3] * 10)
    bench.steps()
    bench.backend.script = lambda pieces: ValueError("a bug")
    bench.executor.go()
    with pytest.raises(ValueError, match="a bug"):
        bench.step()
    bench.worker.close()
    assert bench.executor.is_shut_down
    assert bench.backend.closed


def test_the_end_waits_for_lanes_that_compute() -> None:
    bench = LaneBench()
    bench.ask("a", [1] * 10, [3] * 10)
    bench.steps()
    bench.worker.close()
    assert bench.running == 0
    assert bench.backend.aborting, "so that they do not take long"
    assert bench.backend.closed


def test_a_lane_waits_a_moment_for_those_who_were_just_answered() -> None:
    bench = LaneBench()
    for name in ("a", "b", "c", "d"):
        bench.ask(name, [1] * 8)
    bench.steps()

    def slow(pieces: Sequence[Piece]) -> str:
        bench.clock.now += 1.0
        return "compute"

    bench.backend.script = slow
    bench.executor.go()
    assert bench.worker.patience() == 0, "there is something to take"
    bench.step()
    assert len(bench.answers) == 2
    bench.ask("e", [1] * 8)
    assert bench.worker.patience() == pytest.approx(PATIENCE * 1.0), "two were answered, and one is back"
    bench.ask("f", [1] * 8)
    assert bench.worker.patience() == 0
    bench.finish()


def test_a_lanes_batch_takes_no_longer_than_others_should_wait() -> None:
    bench = LaneBench(n_batch=1000, most_tokens=500, max_tokens=500)
    bench.lanes[0].most_texts = bench.lanes[1].most_texts = 100

    def slow(pieces: Sequence[Piece]) -> str:
        bench.clock.now += MOST_SECONDS / 32 * sum(len(piece.tokens) for piece in pieces)
        return "compute"

    bench.backend.script = slow
    bench.ask("a", *[[1] * 8] * 8)
    bench.finish()
    bench.ask("b", *[[1] * 8] * 8)
    bench.finish()
    assert [sum(sizes) for lane in bench.lanes for sizes in lane.batches] == [32] * 4
    bench.check_idle()


def test_lanes_say_what_they_do() -> None:
    embedder, _ = with_lanes(make_info(), most_tokens=9, most_texts=3)
    executor = Held()
    lanes = Lanes(embedder.lanes, lambda: 0.0, lambda: None, executor)
    assert (len(lanes), lanes.idle, lanes.busy, lanes.done, lanes.longest) == (2, [0, 1], False, False, 9)
    assert lanes.rooms([1]) == [(9, 3)]
    none = Lanes([], lambda: 0.0, lambda: None)
    assert (len(none), none.idle, none.busy, none.longest) == (0, [], False, 0)
    none.close()


REQUESTS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=8)
MOVES = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "step", "go", "go", "cancel", "abort", "fail"]), st.integers(0, 7)),
    max_size=60,
)


@given(REQUESTS, MOVES, st.integers(2, 4))
def test_each_request_has_one_event_whatever_ends_when(
    requests: list[list[int]], moves: list[tuple[str, int]], n_lanes: int
) -> None:
    bench = LaneBench(n_batch=16 * n_lanes, n_lanes=n_lanes)
    asked: dict[str, list[list[int]]] = {}
    gone: set[str] = set()
    for move, number in moves:
        match move:
            case "ask" if len(asked) < len(requests):
                name = str(len(asked))
                asked[name] = [[len(asked) + 1] * size for size in requests[len(asked)]]
                bench.ask(name, *asked[name])
            case "step" if bench.worker.pending:
                bench.worker.clear_abort()
                bench.step()
            case "go" | "fail" if bench.running:
                bench.backend.script = lambda pieces, move=move: NativeError("x") if move == "fail" else "compute"
                bench.executor.go(number % bench.running)
                bench.backend.script = lambda pieces: "compute"
            case "cancel" if str(number) in asked and str(number) not in bench.answers:
                gone.add(str(number))
                bench.cancel(str(number))
            case "abort":
                bench.worker.abort()
    bench.worker.clear_abort()
    bench.finish()
    bench.worker.clear_abort()
    bench.finish()
    assert set(bench.answers) == set(asked) - gone
    for name, event in bench.answers.items():
        if isinstance(event, Embedded):
            assert bench.vectors(name) == [expected(text) for text in asked[name]]
    bench.check_idle()
