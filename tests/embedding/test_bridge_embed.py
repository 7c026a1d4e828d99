"""Requests for vectors through the bridge: they run, are cancelled, and end with the engine."""

import threading
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from engine.bridge import BridgedEngine, open_text_engine
from engine.embedding.backend import Piece
from engine.embedding.requests import Embedded, EmbeddingRequest, Vector
from engine.embedding.worker import EmbeddingWorker
from engine.errors import ContextExceeded, EngineUnavailable, InvalidRequest
from engine.text.loop import EngineLoop, Publish, Started
from tests.embedding.fake_embedder import expected, make_info
from tests.embedding.fake_lanes import with_lanes
from tests.engine.rig import Rig, ask, check_complete, generate


class EmbeddingRig(Rig):
    """A rig with an embedder; after ``hold`` each of its batches waits until ``release``, or until it is aborted."""

    def __init__(self, n_lanes: int = 0) -> None:
        super().__init__()
        self.embedder, _ = with_lanes(make_info(max_tokens=100, n_batch=100, n_seqs=8), n_lanes, most_tokens=100)
        self._let = threading.Semaphore(0)
        self._arrived = trio.Event()

    def start(self, publish: Publish) -> Started:
        worker = EmbeddingWorker(self.embedder)
        return Started(self.backend, EngineLoop(self.backend, self.scheduler, publish, embeddings=worker, debug=True))

    def hold(self) -> None:
        compute, abort = self.embedder.compute, self.embedder.abort

        def held(pieces: Sequence[Piece]) -> list[Vector] | None:
            trio.from_thread.run_sync(self._arrived.set)
            self._let.acquire()
            return compute(pieces)

        def abort_and_go() -> None:
            abort()
            self._let.release()

        self.embedder.compute = held  # type: ignore[method-assign]
        self.embedder.abort = abort_and_go  # type: ignore[method-assign]

    async def at_batch(self) -> None:
        with trio.fail_after(20):
            await self._arrived.wait()
        self._arrived = trio.Event()

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self._let.release()

    def check_over(self) -> None:
        super().check_over()
        assert self.embedder.closed
        assert self.embedder.held == {}


@pytest.fixture
def rig() -> EmbeddingRig:
    return EmbeddingRig()


def texts(name: str, *lists: list[int]) -> EmbeddingRequest:
    return EmbeddingRequest(id=name, texts=lists)


def shown(found: Embedded) -> list[list[float]]:
    return [vector.tolist() for vector in found.vectors]


async def test_vectors_come_back(rig: EmbeddingRig) -> None:
    async with open_text_engine(rig.start) as engine:
        assert engine.embedding is rig.embedder.info
        found = await engine.embed(texts("a", [1, 2], [3], [4] * 90, [5] * 90))
        assert shown(found) == [expected(t) for t in ([1, 2], [3], [4] * 90, [5] * 90)]
        assert engine.stats().prompt_tokens_total == 183
    rig.check_over()


async def test_beside_generations(rig: EmbeddingRig) -> None:
    async with open_text_engine(rig.start) as engine:
        found: dict[str, Embedded] = {}

        async def embed(name: str) -> None:
            found[name] = await engine.embed(texts(name, [ord(name)] * 20, [7]))

        async def text(name: str) -> None:
            request = ask(name, name, 12)
            check_complete(await generate(engine, request), request)

        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(embed, name)
                nursery.start_soon(text, name.upper())
        assert {name: shown(vectors) for name, vectors in found.items()} == {
            name: [expected([ord(name)] * 20), expected([7])] for name in "abcd"
        }
    rig.check_over()


async def test_on_lanes_of_their_own_threads() -> None:
    rig = EmbeddingRig(n_lanes=3)
    async with open_text_engine(rig.start) as engine:
        found: dict[int, Embedded] = {}

        async def embed(number: int) -> None:
            found[number] = await engine.embed(texts(str(number), *[[number] * 9] * (1 + number % 5), [7] * number))

        async with trio.open_nursery() as nursery:
            for number in range(1, 40):
                nursery.start_soon(embed, number)
        for number, vectors in found.items():
            assert shown(vectors) == [*[expected([number] * 9)] * (1 + number % 5), expected([7] * number)]
        assert len(found) == 39
    rig.check_over()


async def test_the_engine_ends_while_lanes_compute() -> None:
    rig = EmbeddingRig(n_lanes=2)
    begun, let_go, abort = threading.Event(), threading.Event(), rig.embedder.abort

    def until_aborted(pieces: Sequence[Piece]) -> str:
        begun.set()
        assert let_go.wait(20)
        return "abort" if rig.embedder.aborting else "compute"

    def abort_and_go() -> None:
        abort()
        let_go.set()

    rig.embedder.script = until_aborted
    rig.embedder.abort = abort_and_go  # type: ignore[method-assign]

    async def embed(engine: BridgedEngine) -> None:
        with pytest.raises(EngineUnavailable, match="shutting down"):
            await engine.embed(texts("a", [1] * 40, [2] * 40))

    async with trio.open_nursery() as nursery, open_text_engine(rig.start) as engine:
        nursery.start_soon(embed, engine)
        assert await trio.to_thread.run_sync(begun.wait, 20)
    rig.check_over()


async def test_what_can_never_be_computed_is_refused_at_once(rig: EmbeddingRig) -> None:
    async with open_text_engine(rig.start) as engine:
        with pytest.raises(ContextExceeded):
            await engine.embed(texts("a", [1] * 101))
        with pytest.raises(InvalidRequest):
            await engine.embed(texts("a", [1], []))
        assert rig.embedder.batches == []


async def test_an_engine_without_an_embedder_says_so() -> None:
    rig = Rig()
    async with open_text_engine(rig.start) as engine:
        assert engine.embedding is None
        with pytest.raises(InvalidRequest, match="no embeddings"):
            await engine.embed(texts("a", [1]))
    rig.check_over()


async def test_an_id_in_use_does_no_harm_to_the_first(rig: EmbeddingRig) -> None:
    rig.hold()
    async with open_text_engine(rig.start) as engine, trio.open_nursery() as nursery:
        nursery.start_soon(engine.embed, texts("a", [1]))
        await rig.at_batch()
        with pytest.raises(InvalidRequest, match="running"):
            await engine.embed(texts("a", [2]))
        rig.release()
    rig.check_over()


async def test_cancelled_alone_its_batch_is_aborted(rig: EmbeddingRig) -> None:
    rig.hold()
    async with open_text_engine(rig.start) as engine:
        await cancelled_in_its_batch(engine, rig, texts("gone", [1] * 90, [2] * 90))
        # Nobody let the batch go: leaving has aborted it, and nothing of the request is left to compute.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.embed, texts("next", [3]))
            await rig.at_batch()
            rig.release()
        assert rig.embedder.batches == [[1]]
    rig.check_over()


async def cancelled_in_its_batch(engine: BridgedEngine, rig: EmbeddingRig, request: EmbeddingRequest) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.embed, request)
        await rig.at_batch()
        nursery.cancel_scope.cancel()


async def test_cancelled_beside_another_only_its_own_texts_are_dropped(rig: EmbeddingRig) -> None:
    rig.hold()
    async with open_text_engine(rig.start) as engine:
        found: list[Embedded] = []

        async def embed_kept() -> None:
            found.append(await engine.embed(texts("kept", [2] * 30, [3] * 30)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.embed, texts("first", [9]))
            await rig.at_batch()
            nursery.start_soon(embed_kept)
            async with trio.open_nursery() as inner:
                inner.start_soon(engine.embed, texts("gone", *[[1] * 30] * 9))
                await trio.testing.wait_all_tasks_blocked()
                rig.release()
                await rig.at_batch()
                inner.cancel_scope.cancel()
            assert not rig.embedder.aborting, "another one's texts are in the batch"
            rig.release(9)
        assert [shown(vectors) for vectors in found] == [[expected([2] * 30), expected([3] * 30)]]
        assert sum(len(batch) for batch in rig.embedder.batches) <= 5, "at most two of nine were computed"
    rig.check_over()


async def test_the_end_of_the_engine_fails_it(rig: EmbeddingRig) -> None:
    rig.hold()
    errors: list[str] = []

    async def embed(engine: BridgedEngine) -> None:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.embed(texts("a", [1] * 90, [2] * 90))
        errors.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        async with open_text_engine(rig.start) as engine:
            nursery.start_soon(embed, engine)
            await rig.at_batch()
        rig.release(9)
        with pytest.raises(EngineUnavailable):
            await engine.embed(texts("late", [1]))
    assert errors == ["the server is shutting down"]
    rig.check_over()


async def test_the_death_of_the_thread_fails_it(rig: EmbeddingRig) -> None:
    def die(pieces: Sequence[Piece]) -> str:
        raise AssertionError("the fake library dies")

    rig.embedder.script = die

    async def run() -> None:
        async with open_text_engine(rig.start) as engine:
            with pytest.raises(EngineUnavailable, match="failed"):
                await engine.embed(texts("a", [1]))
            await engine.died.wait()

    with pytest.raises(EngineUnavailable, match="died"):
        await run()
    assert rig.embedder.closed
