"""Generations, media, sets of adapters, texts to embed, commands about slots, and people who leave: all at once.

The driver plays the bridge too: who cancels what is being computed aborts it, and an abort may come too late and meet
somebody else's work.
"""

import enum
from collections.abc import Sequence
from typing import Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.embedding.backend import Piece
from engine.embedding.requests import Embedded, EmbeddingRequest
from engine.embedding.worker import EmbeddingWorker
from engine.errors import EngineUnavailable, InvalidRequest, NativeError
from engine.text.adapters import AdapterSet
from engine.text.backend import DecodeStatus
from engine.text.commands import Cancel, CancelEmbed, Embed, EraseSlot, RestoreSlot, Resume, SaveSlot, Stop
from engine.text.events import Event, Failed, Finished, SlotDone
from engine.text.loop import EngineLoop
from engine.text.requests import GenerationRequest
from engine.text.snapshot import Snapshot
from tests.embedding.fake_embedder import FakeEmbedder, expected, make_info
from tests.engine.driver import Box, Driver, PatientQueue
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.test_media import chunk, request

N_SLOTS: Final = 3
ADAPTER_SETS: Final[tuple[AdapterSet, ...]] = ((), (), ((0, 1.0),), ((0, 0.5), (2, 1.0)))
MEDIA: Final = {"x": chunk("x", 3, 10), "y": chunk("y", 6), "z": chunk("z", 1, 4)}
PARTS: Final = ("a", "bc", "seventeen letters", "seventeen letters", "x", "y", "z")


class Act(enum.Enum):
    """What somebody does between two steps, or while the engine computes."""

    ASK = "ask"
    EMBED = "embed"
    CANCEL = "cancel"
    SAVE = "save"
    RESTORE = "restore"
    ERASE = "erase"
    BLOCK = "block"
    ABORT = "abort"  # that was meant for somebody who has gone already


@attrs.frozen(kw_only=True)
class Move:
    """``at``: after so many computations; ``number`` chooses among those that there are."""

    at: int
    act: Act
    number: int
    parts: tuple[str, ...]
    adapters: AdapterSet
    rate: float
    cached: bool


def moves() -> st.SearchStrategy[Move]:
    return st.builds(
        Move,
        at=st.integers(0, 30),
        act=st.sampled_from([*[Act.ASK] * 9, *[Act.EMBED] * 2, *[Act.SAVE] * 2, *Act]),
        number=st.integers(0, 11),
        parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(tuple),
        adapters=st.sampled_from(ADAPTER_SETS),
        rate=st.sampled_from([0.0, 0.0, 0.0, 2.0]),
        cached=st.sampled_from([True, True, True, False]),
    )


class Game(Driver):
    """Plays the moves, each of them as soon as so much has been computed; ``live`` are the clients that still wait.

    ``no_room``: the computations for which the library has no room.
    """

    def __init__(
        self, plan: Sequence[Move], n_cells: int, n_seqs: int, *, continuous: bool, no_room: frozenset[int], host: int
    ) -> None:
        """``n_seqs`` 0: each slot has a stream of cells; -1: what a slot holds cannot be cut."""
        cuts = n_seqs >= 0
        backend = FakeBackend(
            n_cells=n_cells, n_slots=N_SLOTS, n_ctx_slot=64, n_batch=8, n_seqs=n_seqs if cuts else N_SLOTS,
            kv_unified=n_seqs != 0, can_shift=cuts, cuts=cuts,
        )  # fmt: skip
        memory = {"host_bytes": host} if cuts else {"kept_bytes": host}
        super().__init__(backend, continuous_batching=continuous, **memory)
        self.embedder = FakeEmbedder(make_info(splittable=True, n_batch=8))
        self.loop = EngineLoop(
            backend,
            self.scheduler,
            self._publish,
            embeddings=EmbeddingWorker(self.embedder, self.clock),
            host=self.host or self.checkpoints,
            debug=True,
            clock=self.clock,
        )
        self.loop.commands = PatientQueue(self.clock, self._has_work)
        self.moves = sorted(plan, key=lambda move: move.at)
        self.texts: dict[str, GenerationRequest] = {}
        self.embeds: dict[str, list[list[int]]] = {}
        self.errands: dict[str, Box] = {}
        self.gone: set[str] = set()
        self.snapshot: Snapshot | None = None
        self.computed = 0
        self.waited = 0  # steps in which somebody did not read
        self.no_room = no_room
        backend.before_decode = lambda runs: self._clock_on()
        backend.script = backend.media_script = lambda _: self._has_room()
        self.embedder.script = self._embedding

    @property
    def busy(self) -> bool:
        return super().busy or self.loop.embeddings.pending or bool(self.live)

    @property
    def live(self) -> list[str]:
        boxes = self.boxes | self.errands
        return [name for name, box in boxes.items() if name not in self.gone and not is_over(box)]

    def play(self) -> None:
        for _ in range(1500):
            if not self.busy and not self.moves:
                return
            self._make_moves()
            self.step()
            self._read()
            if not self.busy:
                self.computed += 1
        raise AssertionError(f"somebody waits for ever: {self.live}")

    def _has_room(self) -> DecodeStatus | None:
        return DecodeStatus.NO_ROOM if self.computed in self.no_room else None

    def _embedding(self, pieces: Sequence[Piece]) -> str:
        self._clock_on()
        return "abort" if self.embedder.aborting else "compute"

    def _clock_on(self) -> None:
        self.computed += 1
        self.clock.now += 0.05
        if self.computed % 2:  # the other half of the moves is made between two steps
            self._make_moves()

    def _make_moves(self) -> None:
        while self.moves and self.moves[0].at <= self.computed:
            self._make(self.moves.pop(0))

    def _make(self, move: Move) -> None:
        name = f"{len(self.boxes) + len(self.errands)}"
        slot = move.number % N_SLOTS
        match move.act:
            case Act.ASK:
                wanted = request(
                    name,
                    *(MEDIA.get(part, part) for part in move.parts),
                    "e",
                    max_tokens=1 + move.number,
                    adapters=move.adapters,
                    tokens_per_second=move.rate,
                    cache_prompt=move.cached,
                    slot=slot if move.number > 8 else None,
                )
                self.texts[name] = wanted
                self.submit(wanted)
            case Act.EMBED:
                texts = [[n + 1] * (3 + 5 * n) for n in range(1 + move.number % 4)]
                self.embeds[name], self.boxes[name] = texts, Box()
                self.loop.commands.put(Embed(EmbeddingRequest(id=name, texts=texts), self.boxes[name]))
            case Act.CANCEL:
                self._leave(self.live[move.number % len(self.live)] if self.live else "nobody")
            case Act.SAVE:
                text = [i for i in range(N_SLOTS) if self._holds_text(i)]
                slot = text[move.number % len(text)] if text else slot
                self.loop.commands.put(SaveSlot(name, slot, self.errands.setdefault(name, Box())))
            case Act.ERASE:
                self.loop.commands.put(EraseSlot(name, slot, self.errands.setdefault(name, Box())))
            case Act.RESTORE if self.snapshot is not None:
                box = self.errands.setdefault(name, Box())
                self.loop.commands.put(RestoreSlot(name, slot, box, self.snapshot))
            case Act.BLOCK:
                for box in self.boxes.values():
                    box.is_full = not box.is_full and move.number % 2 == 0
            case Act.ABORT:
                self.backend.abort()
                self.embedder.abort()

    def _holds_text(self, slot: int) -> bool:
        left = self.scheduler.books.slots.remembered(slot)
        return left is not None and min(left.tokens) >= 0

    def _leave(self, name: str) -> None:
        """As the bridge does it."""
        self.gone.add(name)
        if name in self.embeds:
            self.loop.commands.put(CancelEmbed(name))
            if self.loop.embeddings.computing == {name}:
                self.embedder.abort()
            return
        self.loop.commands.put(Cancel(name))
        if name in self.loop.prefilling:
            self.backend.abort()

    def _read(self) -> None:
        """Whoever was blocked reads at last when nothing else goes on."""
        for box in self.errands.values():
            for answer in box.events:
                if isinstance(answer, SlotDone) and answer.snapshot is not None:
                    self.snapshot = answer.snapshot
        live = [*self.scheduler.running, *self.scheduler.waiting]
        if any(self.boxes[s.request.id].is_full for s in live):
            self.waited += 1
            if self.waited % 12 == 0:
                for box in self.boxes.values():
                    box.is_full = False
                self.loop.commands.put(Resume())

    def check_ends(self) -> None:
        for name, wanted in self.texts.items():
            box = self.boxes[name]
            right = continuation(wanted.prompt, wanted.max_tokens or 0, wanted.adapters)
            assert box.tokens == right[: len(box.tokens)]
            assert len(box.terminals) <= 1
            if self.no_room and any(is_lack_of_room(event) for event in box.terminals):
                continue
            if name not in self.gone:
                assert box.finished()
                assert box.tokens == right
        for name, texts in self.embeds.items():
            events: Sequence[Event | Embedded] = self.boxes[name].events
            assert len(events) <= 1
            assert events or name in self.gone
            for event in events:
                assert isinstance(event, Embedded), event
                assert [vector.tolist() for vector in event.vectors] == [expected(text) for text in texts]
        for name, box in self.errands.items():
            assert len(box.events) == 1 or (name in self.gone and not box.events)
            for answer in box.events:
                if isinstance(answer, Failed):
                    assert isinstance(answer.error, InvalidRequest | EngineUnavailable)
                    assert "cannot be restored" not in str(answer.error), "the books promised room"
                else:
                    assert isinstance(answer, SlotDone)


def is_over(box: Box) -> bool:
    return any(isinstance(event, Finished | Failed | Embedded | SlotDone) for event in box.events)


def is_lack_of_room(event: Event) -> bool:
    return isinstance(event, Failed) and isinstance(event.error, NativeError) and "no room" in str(event.error)


GAMES: Final = {
    "plan": st.lists(moves(), min_size=6, max_size=20),
    "n_cells": st.sampled_from([66, 80, 150]),
    "n_seqs": st.sampled_from([0, N_SLOTS, N_SLOTS + 1, 0, 12, -1]),
    "continuous": st.sampled_from([True, True, False]),
    "host": st.sampled_from([0, 2_000, 10_000, 1_000_000]),
    "no_room": st.just(frozenset[int]()) | st.frozensets(st.integers(1, 40), max_size=4),
}


@settings(max_examples=150)
@given(**GAMES)
def test_everybody_gets_what_is_his_and_nothing_is_left(
    plan: list[Move], n_cells: int, n_seqs: int, continuous: bool, no_room: frozenset[int], host: int
) -> None:
    game = Game(plan, n_cells, n_seqs, continuous=continuous, no_room=no_room, host=host)
    game.play()
    game.check_ends()
    game.check_idle()
    assert not game.embedder.held
    game.scheduler.cache.clear()
    assert not game.backend.kv.cells, "cells that nobody will ever free"


@settings(max_examples=60)
@given(stop_at=st.integers(0, 25), **GAMES)
def test_a_stop_at_any_time_ends_everybody_once(
    stop_at: int, plan: list[Move], n_cells: int, n_seqs: int, continuous: bool, no_room: frozenset[int], host: int
) -> None:
    game = Game(plan, n_cells, n_seqs, continuous=continuous, no_room=no_room, host=host)
    for _ in range(stop_at):
        game._make_moves()
        if game.busy:
            game.step()
            game._read()
    game.loop.commands.put(Stop())
    game.backend.abort()
    game.moves.clear()
    game.loop.run()
    for name, box in (game.boxes | game.errands).items():
        ends = [event for event in box.events if isinstance(event, Finished | Failed | Embedded | SlotDone)]
        assert len(ends) == (1 if name not in game.gone else len(ends)) <= 1
    game.check_idle()
