"""Texts and generations on one engine loop: they alternate, and neither starves the other."""

from collections.abc import Sequence

import pytest

from engine.embedding.backend import Piece
from engine.embedding.requests import Embedded, EmbeddingRequest, Vector
from engine.embedding.worker import LEAST, PATIENCE, EmbeddingWorker
from engine.text.backend import Run
from engine.text.commands import CancelEmbed, Command, Embed, Stop, Submit
from engine.text.events import Failed
from engine.text.loop import EngineLoop
from engine.text.requests import GenerationRequest
from tests.embedding.fake_embedder import FakeEmbedder, expected, make_info
from tests.engine.driver import Box, Driver, PatientQueue

DECODE, TOKEN = 0.030, 0.001  # seconds of a decode step, and of a token to embed


class Both(Driver):
    """The driver with an embedder beside the backend; ``order`` tells what was computed, in turn."""

    def __init__(self, **limits: object) -> None:
        super().__init__(**limits)
        self.embedder = FakeEmbedder(make_info(n_batch=256, n_seqs=64, max_tokens=500))
        self.order: list[str] = []
        self.sizes: list[int] = []
        self.backend.before_decode = self._decoding
        compute = self.embedder.compute

        def timed(pieces: Sequence[Piece]) -> list[Vector] | None:
            self.order.append("embed")
            self.sizes.append(sum(len(piece.tokens) for piece in pieces))
            self.clock.now += TOKEN * self.sizes[-1]
            return compute(pieces)

        self.embedder.compute = timed  # type: ignore[method-assign]
        worker = EmbeddingWorker(self.embedder, self.clock)
        self.loop = EngineLoop(
            self.backend, self.scheduler, self._publish, embeddings=worker, debug=True, clock=self.clock
        )
        self.loop.commands = PatientQueue(self.clock, self._has_work)

    def _decoding(self, runs: Sequence[Run]) -> None:
        self.order.append("decode")
        self.clock.now += DECODE

    def embed(self, name: str, *texts: list[int]) -> Box:
        box = self.boxes[name] = Box()
        self.loop.commands.put(Embed(EmbeddingRequest(id=name, texts=texts), box))
        return box

    @property
    def busy(self) -> bool:
        return super().busy or self.loop.embeddings.pending


def vectors(box: Box) -> list[list[float]]:
    (event,) = box.events
    assert isinstance(event, Embedded), event
    return [vector.tolist() for vector in event.vectors]


def test_with_nothing_else_a_batch_takes_all_that_fits() -> None:
    both = Both()
    texts = [[n] * 20 for n in range(1, 31)]
    box = both.embed("a", *texts)
    both.finish()
    assert vectors(box) == [expected(text) for text in texts]
    assert both.sizes == [240, 240, 120]


def test_they_alternate_and_the_batch_keeps_to_its_half_of_the_step() -> None:
    both = Both()
    stream = both.ask("stream", "hello", 30)
    both.steps(3)
    both.order.clear()
    box = both.embed("texts", *[[n] * 10 for n in range(1, 31)])
    both.finish()
    assert stream.finished()
    assert len(vectors(box)) == 30
    assert both.order[:8] == ["decode", "embed"] * 4
    assert both.sizes[0] <= LEAST
    # 150 ms a step: half of it less the decode step leaves 45 tokens of a millisecond each.
    while_running = both.sizes[1 : both.order.count("embed") - 1]
    assert max(while_running) <= 45
    assert max(while_running) >= 30


def test_a_stream_goes_on_at_every_step() -> None:
    both = Both()
    both.embed("texts", *[[n] * 50 for n in range(1, 100)])
    both.step()
    stream = both.ask("stream", "hi", 5)
    both.steps(5)
    assert stream.finished().timings.predicted_n == 5


def test_a_cancelled_request_leaves_the_other_kind_alone() -> None:
    both = Both()
    stream = both.ask("stream", "hello", 6)
    box = both.embed("gone", *[[n] * 30 for n in range(1, 50)])
    kept = both.embed("kept", [7])
    both.steps(2)
    both.loop.commands.put(CancelEmbed("gone"))
    both.finish()
    assert box.events == []
    assert vectors(kept) == [expected([7])]
    assert stream.text
    assert both.embedder.held == {}
    both.check_idle()


def test_the_figures_count_both() -> None:
    both = Both()
    both.ask("stream", "hello", 2)
    both.embed("texts", [1] * 20, [2] * 20, [3] * 200)
    both.step()
    assert both.loop.stats.requests_processing == 2
    both.finish()
    both.loop.embeddings.obey(CancelEmbed("nobody"))
    stats = both.loop.stats
    assert stats.prompt_tokens_total == 5 + 240
    assert stats.decode_total == len(both.order)


def test_at_the_end_both_kinds_are_told() -> None:
    both = Both()
    stream, box = both.ask("stream", "hello", 9), both.embed("texts", [1] * 400, [2] * 400)
    both.step()
    both.loop._stopping = True
    both.loop.run()
    assert str(stream.failed().error) == "the server is shutting down"
    assert str(box.failed().error) == "the server is shutting down"


class Arrivals(PatientQueue):
    """A queue into which ``late`` is put as soon as somebody waits."""

    def __init__(self, both: Both) -> None:
        super().__init__(both.clock, both._has_work)
        self.late: list[Command] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Command:
        if self.empty() and timeout is not None and self.late:
            return self.late.pop(0)
        return super().get(block, timeout)


def after_a_batch_of_two() -> tuple[Both, Arrivals]:
    both = Both()
    arrivals = both.loop.commands = Arrivals(both)
    both.embed("a", [1] * 20)
    both.embed("b", [2] * 20)
    both.step()
    assert both.sizes == [40]
    return both, arrivals


def late(both: Both, name: str, token: int) -> Command:
    box = both.boxes[name] = Box()
    return Embed(EmbeddingRequest(id=name, texts=[[token] * 20]), box)


def test_texts_of_clients_that_were_just_answered_share_a_batch() -> None:
    both, arrivals = after_a_batch_of_two()
    both.embed("c", [3] * 20)
    arrivals.late = [late(both, "d", 4)]
    both.step()
    assert both.sizes == [40, 40]


def test_nobody_waits_longer_than_a_share_of_the_last_batch() -> None:
    both, _ = after_a_batch_of_two()
    both.embed("c", [3] * 20)
    before = both.clock.now
    both.step()
    assert both.sizes == [40, 20]
    assert both.clock.now - before == pytest.approx(PATIENCE * 40 * TOKEN + 20 * TOKEN)
    both.embed("d", [4] * 20)  # one was answered last, and one is here
    before = both.clock.now
    both.step()
    assert both.clock.now - before == pytest.approx(20 * TOKEN)


def test_a_generation_does_not_wait_for_texts() -> None:
    both, arrivals = after_a_batch_of_two()
    both.embed("c", [3] * 20)
    stream = both.boxes["stream"] = Box()
    arrivals.late = [Submit(GenerationRequest(id="stream", prompt=list(b"hi"), max_tokens=2), stream)]
    before = both.clock.now
    both.step()
    assert both.clock.now - before == pytest.approx(20 * TOKEN)
    both.finish()
    assert stream.finished()


def test_a_stop_while_waiting_ends_the_engine() -> None:
    both, arrivals = after_a_batch_of_two()
    box = both.embed("c", [3] * 20)
    arrivals.late = [Stop()]
    both.loop.run()
    (event,) = box.events
    assert isinstance(event, Failed)
