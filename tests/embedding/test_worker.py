"""The worker: one terminal event a request, cancelled and failing at every step."""

from concurrent.futures import Executor

import numpy as np
import pytest

from engine.embedding.pooling import join
from engine.embedding.requests import Embedded, EmbeddingRequest
from engine.embedding.worker import LEAST, MOST_SECONDS, EmbeddingWorker
from engine.errors import ContextExceeded, EngineUnavailable, InvalidRequest, NativeError
from engine.native.options import Pooling
from engine.text.commands import CancelEmbed, Embed
from engine.text.events import Failed
from engine.text.info import EngineStats
from tests.embedding.fake_embedder import FakeEmbedder, expected, make_info
from tests.engine.driver import Box, Clock


class Bench:
    """A worker on the fake; ``answers`` by request id."""

    def __init__(self, backend: FakeEmbedder | None = None, executor: Executor | None = None) -> None:
        self.backend = backend or FakeEmbedder()
        self.clock = Clock()
        self.worker = EmbeddingWorker(self.backend, self.clock, executor)
        self.stats = EngineStats()
        self.boxes: dict[str, Box] = {}
        self.answers: dict[str, Embedded | Failed] = {}
        self.wanted = True

    def ask(self, name: str, *texts: list[int]) -> None:
        box = self.boxes[name] = Box()
        self.take(self.worker.obey(Embed(EmbeddingRequest(id=name, texts=texts), box)))

    def cancel(self, name: str) -> list[object]:
        del self.boxes[name]
        return list(self.worker.obey(CancelEmbed(name)))

    def take(self, answers: object) -> None:
        for box, event in answers:
            (name,) = [name for name, known in self.boxes.items() if known is box]
            assert name not in self.answers, "a second terminal event"
            self.answers[name] = event

    def step(self, budget: int | None = None) -> None:
        self.take(self.worker.step(budget, lambda: self.wanted, self.stats))

    def finish(self) -> None:
        while self.worker.pending:
            self.step()

    def vectors(self, name: str) -> list[list[float]]:
        event = self.answers[name]
        assert isinstance(event, Embedded), event
        return [vector.tolist() for vector in event.vectors]

    def error(self, name: str) -> object:
        event = self.answers[name]
        assert isinstance(event, Failed), event
        return event.error

    def check_idle(self) -> None:
        assert self.worker.n_requests == 0
        assert not self.worker.pending
        assert self.worker.computing == frozenset()
        assert self.backend.held == {}


def test_texts_become_vectors_in_their_order() -> None:
    bench = Bench()
    texts = [[1, 2, 3], [4], [5] * 30, [6, 7], [8] * 12]
    bench.ask("a", *texts)
    bench.ask("b", [9])
    bench.finish()
    assert bench.vectors("a") == [expected(text) for text in texts]
    assert bench.vectors("b") == [expected([9])]
    assert bench.stats.prompt_tokens_total == sum(map(len, texts)) + 1
    assert bench.stats.decode_total == len(bench.backend.batches)
    assert bench.stats.busy_slots_total == 6
    bench.check_idle()


@pytest.mark.parametrize("pooling", [Pooling.LAST, Pooling.RANK])
def test_a_text_in_pieces_has_the_vector_of_the_whole(pooling: Pooling) -> None:
    bench = Bench(FakeEmbedder(make_info(splittable=True, pooling=pooling)))
    long = list(range(1, 38))
    bench.ask("long", long)
    bench.step()
    bench.ask("short", [5])
    bench.finish()
    assert len(bench.backend.batches) > 2
    assert bench.vectors("long") == [expected(long)]
    assert bench.vectors("short") == [expected([5])]
    bench.check_idle()


def test_pieces_are_joined_as_the_pooling_would_have_the_whole() -> None:
    first, second = np.array([1, 2], np.float32), np.array([4, 8], np.float32)
    assert join(Pooling.CLS, [3, 1], [first, second]) is first
    assert join(Pooling.LAST, [3, 1], [first, second]) is second
    assert join(Pooling.RANK, [3, 1], [first, second]) is second
    mean = join(Pooling.MEAN, [3, 1], [first, second])
    assert mean.tolist() == [1.75, 3.5]
    assert mean.dtype == np.float32
    rows = join(Pooling.NONE, [2, 1], [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)])
    assert rows.shape == (3, 3)
    assert join(Pooling.MEAN, [1], [first]) is first


@pytest.mark.parametrize(
    ("texts", "error"),
    [([], InvalidRequest), ([[1], []], InvalidRequest), ([[1000]], InvalidRequest), ([[-1]], InvalidRequest),
     ([[1] * 41], ContextExceeded)],
)  # fmt: skip
def test_what_can_never_be_computed_is_answered_at_once(texts: list[list[int]], error: type[Exception]) -> None:
    bench = Bench()
    bench.ask("a", *texts)
    assert isinstance(bench.error("a"), error)
    bench.check_idle()


def test_an_id_in_use_is_refused_and_the_first_goes_on() -> None:
    bench = Bench()
    bench.ask("a", [1])
    first = bench.boxes["a"]
    bench.boxes["second"] = Box()
    bench.take(bench.worker.obey(Embed(EmbeddingRequest(id="a", texts=[[2]]), bench.boxes["second"])))
    assert isinstance(bench.error("second"), InvalidRequest)
    bench.boxes["a"] = first
    bench.finish()
    assert bench.vectors("a") == [expected([1])]


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("splittable", [True, False])
def test_cancelled_at_each_step_it_leaves_nothing_behind(steps: int, splittable: bool) -> None:
    bench = Bench(FakeEmbedder(make_info(splittable=splittable)))
    bench.ask("gone", [1] * 35, [2] * 35, [3] * 3)
    bench.ask("kept", [7] * 5, [8] * 20)
    for _ in range(steps):
        if bench.worker.pending:
            bench.step()
    ended = "gone" in bench.answers
    assert bench.worker.obey(CancelEmbed("gone")) == []
    assert bench.worker.obey(CancelEmbed("gone")) == [], "an unknown id is ignored"
    before = sum(map(sum, bench.backend.batches))
    bench.finish()
    assert ("gone" in bench.answers) == ended, "no event after the cancel"
    assert bench.vectors("kept") == [expected([7] * 5), expected([8] * 20)]
    assert sum(map(sum, bench.backend.batches)) - before <= 25, "nothing of it was computed any more"
    bench.check_idle()


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("splittable", [True, False])
def test_an_aborted_batch_is_computed_again(steps: int, splittable: bool) -> None:
    bench = Bench(FakeEmbedder(make_info(splittable=splittable)))
    texts = [[1, 2], [3] * 33, [4, 5, 6]]
    bench.ask("a", *texts)
    for _ in range(steps):
        if bench.worker.pending:
            bench.step()
    bench.worker.abort()
    if bench.worker.pending:
        bench.step()
    bench.worker.clear_abort()
    bench.finish()
    assert bench.vectors("a") == [expected(text) for text in texts]
    bench.check_idle()


def test_a_batch_that_is_not_wanted_any_more_is_not_computed() -> None:
    bench = Bench()
    bench.ask("a", [1])
    bench.wanted = False
    bench.step()
    assert bench.backend.batches == []
    bench.wanted = True
    bench.finish()
    assert bench.vectors("a") == [expected([1])]


@pytest.mark.parametrize("steps", range(3))
@pytest.mark.parametrize("splittable", [True, False])
def test_a_failing_library_fails_those_in_the_batch_alone(steps: int, splittable: bool) -> None:
    bench = Bench(FakeEmbedder(make_info(splittable=splittable, n_seqs=1)))
    bench.ask("a", [1] * 35, [2] * 35)
    bench.ask("b", [3] * 10)
    for _ in range(steps):
        bench.step()
    bench.backend.script = lambda pieces: NativeError("broken")
    failing = bench.worker.pending
    bench.step()
    bench.backend.script = lambda pieces: "compute"
    bench.finish()
    failed = [name for name, event in bench.answers.items() if isinstance(event, Failed)]
    assert failing
    assert len(failed) == 1
    assert set(bench.answers) == {"a", "b"}
    bench.check_idle()


def test_at_the_end_everybody_is_told() -> None:
    bench = Bench()
    bench.ask("a", [1])
    bench.ask("b", [2])
    bench.take(bench.worker.fail_all(EngineUnavailable("over")))
    assert {str(bench.error(name)) for name in ("a", "b")} == {"over"}


def test_the_budget_follows_the_measured_cost() -> None:
    bench = Bench(FakeEmbedder(make_info(n_batch=1000, n_seqs=64)))
    assert bench.worker.budget(1.0) == LEAST, "nothing is known yet"
    compute = bench.backend.compute

    def slow(pieces: object) -> object:
        bench.clock.now += 0.01 * sum(len(piece.tokens) for piece in pieces)
        return compute(pieces)

    bench.backend.compute = slow
    bench.ask("a", [1] * 10, [2] * 10)
    bench.finish()
    assert bench.worker.budget(1.0) == pytest.approx(100, abs=1)
    assert bench.worker.budget(0.001) == LEAST
    assert bench.worker.budget(60.0) == 1000


def test_a_batch_takes_no_longer_than_others_should_wait() -> None:
    bench = Bench(FakeEmbedder(make_info(n_batch=1000, n_seqs=64, max_tokens=300)))
    compute = bench.backend.compute

    def slow(pieces: object) -> object:
        bench.clock.now += MOST_SECONDS / 32 * sum(len(piece.tokens) for piece in pieces)
        return compute(pieces)

    bench.backend.compute = slow
    bench.ask("a", *[[1] * 10] * 20)
    bench.step()
    assert len(bench.backend.batches[-1]) == 20, "nothing is known yet"
    bench.ask("b", *[[1] * 10] * 20)
    bench.finish()
    assert [sum(sizes) for sizes in bench.backend.batches[1:]] == [30] * 6 + [20]
    bench.ask("c", [1] * 30, [2] * 200)
    bench.finish()
    assert bench.backend.batches[-2:] == [[30], [200]], "a text is never taken apart"


def test_without_a_backend_everything_is_refused() -> None:
    worker = EmbeddingWorker()
    box = Box()
    ((mailbox, event),) = worker.obey(Embed(EmbeddingRequest(id="a", texts=[[1]]), box))
    assert mailbox is box
    assert isinstance(event, Failed)
    assert isinstance(event.error, InvalidRequest)
    assert worker.info is None
    assert not worker.pending
