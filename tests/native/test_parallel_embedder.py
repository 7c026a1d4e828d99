"""Batches of texts on several contexts: the same vectors as from one, each context with its part of the threads."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.embedding.backend import Piece
from engine.embedding.llama_embedder import LlamaEmbedder
from engine.embedding.options import EmbeddingOptions
from engine.embedding.parallel import ParallelEmbedder, on_processors, open_embedders
from engine.embedding.requests import Embedded, EmbeddingRequest, Vector
from engine.embedding.shares import LEAST_SHARE
from engine.embedding.worker import EmbeddingWorker
from engine.errors import NativeError
from engine.native.model import Model
from engine.native.options import Attention, ContextOptions, ModelOptions, Placement, Pooling
from engine.text.commands import Embed
from engine.text.events import Failed
from engine.text.info import EngineStats
from tests.engine.driver import Box
from tests.models.tiny_bert import CLS, N_CTX, SEP, vocabulary, write_tiny_bert

THREADS = 3
TEXTS = [[CLS, *range(5, 5 + n), SEP] for n in range(1, 40)]


class Working:
    """A worker on an embedder, and a thread that waits for its lanes as the engine's does."""

    def __init__(self, embedder: LlamaEmbedder | ParallelEmbedder) -> None:
        self.embedder = embedder
        self.worker = EmbeddingWorker(embedder)
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.worker.wake = lambda: self._woken.put(None)

    def ask(self, texts: Sequence[Sequence[int]]) -> Embedded | Failed:
        answers = self.worker.obey(Embed(EmbeddingRequest(id="a", texts=texts), Box()))
        while not answers:
            if self.worker.pending:
                answers = self.worker.step(None, lambda: True, EngineStats(kv_cells=0))
                self.worker.clear_abort()
            else:
                self._woken.get(timeout=60)
        ((_, event),) = answers
        while self.worker.computing:  # of a request that failed
            self._woken.get(timeout=60)
            if self.worker.pending:
                self.worker.step(None, lambda: True, EngineStats(kv_cells=0))
        return event


type Open = Callable[..., Working]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")


@pytest.fixture
def open_on() -> Iterator[Open]:
    models: list[Model] = []
    opened: list[Working] = []

    def open_it(
        path: Path, *, n_threads: int = THREADS, options: EmbeddingOptions | None = None, **context: Any
    ) -> Working:
        models.append(Model(ModelOptions(path=str(path), n_gpu_layers=0)))
        threads = {"n_threads": n_threads, "n_threads_batch": n_threads}
        embedder = open_embedders(
            models[-1], ContextOptions(**threads, **context), options or EmbeddingOptions(embeddings=True)
        )
        opened.append(Working(embedder))
        return opened[-1]

    yield open_it
    for working in opened:
        working.worker.close()
        working.worker.close()  # idempotent
    for model in models:
        model.close()


@pytest.fixture
def parallel(bert: Path, open_on: Open) -> Working:
    working = open_on(bert)
    assert isinstance(working.embedder, ParallelEmbedder)
    return working


def compute(working: Working, texts: Sequence[Sequence[int]]) -> Sequence[Vector]:
    event = working.ask(texts)
    assert isinstance(event, Embedded), event
    return event.vectors


def alone(bert: Path, open_on: Open, texts: Sequence[Sequence[int]]) -> list[Vector]:
    one = open_on(bert, n_threads=1)
    assert isinstance(one.embedder, LlamaEmbedder)
    return [compute(one, [text])[0] for text in texts]


def same(found: Sequence[Vector], wanted: Sequence[Vector]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.allclose(mine, theirs, atol=1e-2)  # the size of a batch moves them; texts differ by 3e-2


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(thread, texts) of each batch of a context, in the order in which they began."""
    seen: list[tuple[int, int]] = []
    plain = LlamaEmbedder.compute

    def watched(self: LlamaEmbedder, pieces: Sequence[Piece]) -> list[Vector] | None:
        seen.append((threading.get_ident(), len(pieces)))
        return plain(self, pieces)

    monkeypatch.setattr(LlamaEmbedder, "compute", watched)
    return seen


def test_vectors_are_those_of_each_text_alone(bert: Path, parallel: Working, open_on: Open) -> None:
    same(compute(parallel, TEXTS), alone(bert, open_on, TEXTS))


def test_each_context_gets_its_part(parallel: Working, users: list[tuple[int, int]]) -> None:
    compute(parallel, TEXTS[:20])
    assert len(users) == THREADS
    assert sum(count for _, count in users) == 20
    assert max(count for _, count in users) < 14
    assert threading.get_ident() not in {thread for thread, _ in users}


def test_too_little_to_share_is_computed_by_all_threads_of_one(parallel: Working, users: list[tuple[int, int]]) -> None:
    compute(parallel, TEXTS[30 : 30 + THREADS - 1])
    short = [[7, 8]] * THREADS
    assert sum(map(len, short)) < LEAST_SHARE * THREADS
    compute(parallel, short)
    assert users == [(threading.get_ident(), THREADS - 1), (threading.get_ident(), THREADS)]


@pytest.mark.parametrize(
    ("sizes", "shared"),
    [([10, 10, 10], True), ([15, 8, 7], True), ([16, 7, 7], False), ([200, 200, 200, 5], True), ([300, 9, 9], False)],
)
def test_what_would_keep_one_thread_busy_alone_is_not_shared(
    parallel: Working, users: list[tuple[int, int]], sizes: list[int], shared: bool
) -> None:
    compute(parallel, [[10] * size for size in sizes])
    assert len(users) == (THREADS if shared else 1)


def test_a_text_that_only_one_context_takes(
    tmp_path: Path, open_on: Open, users: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.embedding.parallel.LONGEST_SHARED", 256)
    embedder = open_on(write_tiny_bert(tmp_path / "bert.gguf"))
    compute(embedder, [[10] * 256] * THREADS)
    assert len(users) == THREADS
    compute(embedder, [[10] * 300] * THREADS)
    assert users[THREADS:] == [(threading.get_ident(), 1)] * THREADS


def test_threads_are_shared_out_too(bert: Path, open_on: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[LlamaEmbedder, int]] = []
    monkeypatch.setattr(LlamaEmbedder, "use_threads", lambda self, count: used.append((self, count)))
    row = 4 * len(vocabulary())
    monkeypatch.setattr("engine.embedding.parallel.MOST_BYTES", 2 * N_CTX * row - 1)
    working = open_on(bert, n_threads=5)
    assert isinstance(working.embedder, ParallelEmbedder)
    main, other = working.embedder._contexts
    compute(working, TEXTS[:20])
    assert set(used) == {(main, 3), (other, 2)}
    del used[:]
    compute(working, TEXTS[:1])
    assert used == [(main, 5)]
    monkeypatch.setattr("engine.embedding.parallel.MOST_BYTES", N_CTX * row - 1)
    assert isinstance(open_on(bert, n_threads=5).embedder, LlamaEmbedder)


def test_a_long_text_among_short_ones(bert: Path, parallel: Working, open_on: Open) -> None:
    texts = [[10] * 500, *TEXTS[:20], [11] * 200]
    assert sum(map(len, texts)) > parallel.embedder.info.n_batch
    same(compute(parallel, texts), alone(bert, open_on, texts))


def test_texts_that_find_no_room_go_into_another_round(
    bert: Path, parallel: Working, open_on: Open, users: list[tuple[int, int]]
) -> None:
    texts = [[10 + n] * 300 for n in range(4)]  # of 300 tokens each context takes one at a time
    wanted = alone(bert, open_on, texts)
    del users[:]
    same(compute(parallel, texts), wanted)
    assert [count for _, count in users] == [1, 1, 1, 1]


def test_more_texts_than_one_context_takes(bert: Path, open_on: Open) -> None:
    embedder = open_on(bert, n_ubatch=4)
    assert embedder.embedder.info.n_batch == 4 * THREADS
    texts = [[10 + n] for n in range(4 * THREADS)]
    same(compute(embedder, texts), alone(bert, open_on, texts))


def test_vectors_of_tokens(bert: Path, open_on: Open) -> None:
    options = EmbeddingOptions(embeddings=True, pooling=Pooling.NONE)
    vectors = compute(open_on(bert, options=options), TEXTS)
    assert [len(rows) for rows in vectors] == [len(text) for text in TEXTS]
    one = open_on(bert, n_threads=1, options=options)
    same(vectors, [compute(one, [text])[0] for text in TEXTS])


def test_scores(tmp_path: Path, open_on: Open) -> None:
    ranker = write_tiny_bert(tmp_path / "rank.gguf", rank=True)
    embedder = open_on(ranker, options=EmbeddingOptions(rerank=True))
    assert isinstance(embedder.embedder, ParallelEmbedder)
    assert embedder.embedder.info.pooling is Pooling.RANK
    same(compute(embedder, TEXTS), alone(ranker, open_on, TEXTS))


def test_abort_ends_all(parallel: Working) -> None:
    embedder = parallel.embedder
    embedder.abort()
    pieces = [Piece(seq, 0, text) for seq, text in enumerate(TEXTS[:5])]
    assert [lane.compute(pieces) for lane in embedder.lanes] == [None] * THREADS
    assert embedder.compute(pieces) is None
    embedder.clear_abort()
    assert len(compute(parallel, TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("failing", range(THREADS))
def test_the_failure_of_one_leaves_the_others_as_they_were(
    parallel: Working, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    plain = LlamaEmbedder.compute
    assert isinstance(parallel.embedder, ParallelEmbedder)
    broken_one = parallel.embedder._contexts[failing]

    def broken(self: LlamaEmbedder, pieces: Sequence[Piece]) -> list[Vector] | None:
        if self is broken_one:
            raise NativeError("broken")
        return plain(self, pieces)

    monkeypatch.setattr(LlamaEmbedder, "compute", broken)
    event = parallel.ask(TEXTS[:20])
    assert isinstance(event, Failed)
    assert str(event.error) == "broken"
    monkeypatch.undo()
    assert len(compute(parallel, TEXTS)) == len(TEXTS)


def test_one_context_where_several_are_of_no_use(bert: Path, tiny_model: Path, open_on: Open) -> None:
    placed = Placement(processors=(0,))
    causal = EmbeddingOptions(embeddings=True, attention=Attention.CAUSAL)
    for embedder in (
        open_on(bert, n_threads=1),
        open_on(bert, placement=placed),
        open_on(bert, placement_batch=placed),
        open_on(tiny_model, n_ctx=256, options=causal),
        open_on(tiny_model, n_ctx=256, options=EmbeddingOptions(embeddings=True, attention=Attention.NON_CAUSAL)),
    ):
        assert isinstance(embedder.embedder, LlamaEmbedder)


def test_a_model_on_devices_is_not_on_processors(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(ModelOptions(path=str(bert)))
    try:
        monkeypatch.setattr("engine.embedding.parallel.spread_over", lambda found, chosen: ["a GPU"])
        assert not on_processors(model)
        monkeypatch.setattr("engine.embedding.parallel.spread_over", lambda found, chosen: [])
        assert on_processors(model)
    finally:
        model.close()
