"""The text engine as Trio code sees it: one worker thread, one door. With its parts ``engine.slot_bridge``,
``engine.mailboxes`` and ``engine.event_queue``, and the image engine's bridge, all of the engine that knows Trio.

Requests go to the thread through its command queue; all events of a step come back in one ``run_sync_soon``.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import attrs
import trio

from engine.embedding.requests import Embedded, EmbeddingInfo, EmbeddingRequest
from engine.errors import EngineError, EngineUnavailable, InvalidRequest
from engine.mailboxes import EventStream, Reply
from engine.nurseries import unwrapped
from engine.slot_bridge import Errand, SlotDesk, SlotFile
from engine.text.backend import Vocab
from engine.text.commands import Cancel, CancelEmbed, Command, Embed, Mailbox, Resume, Stop, Submit
from engine.text.events import Failed, Notice, SlotDone
from engine.text.info import EngineStats, ModelInfo, SlotState
from engine.text.loop import Publish, Started
from engine.text.media import MediaReader
from engine.text.requests import GenerationRequest, Grammars
from engine.text.sequence import Sequence
from engine.text.tokens import row

log = logging.getLogger("engine.bridge")


class TextEngine(Protocol):
    """A running text engine. Tests use a fake of this protocol."""

    info: ModelInfo
    measured_rate: float | None  # tokens/s of one sequence, when options.measure_rate
    embedding: EmbeddingInfo | None  # None: this engine computes no embeddings

    @property
    def vocab(self) -> Vocab:
        """The model's vocabulary."""

    @property
    def grammars(self) -> Grammars:
        """Compiles grammars for the model. Blocks: to be used in a worker thread."""

    @property
    def media(self) -> MediaReader | None:
        """Prepares images and sounds, None where the model takes none. Blocks: to be used in a worker thread."""

    def generate(
        self, request: GenerationRequest, arrivals: trio.lowlevel.ParkingLot | None = None
    ) -> AbstractAsyncContextManager["EventStream"]:
        """Run a request: ``async with engine.generate(r) as events: async for event in events: …``

        The iterator ends after the terminal event (Finished or Failed is the last item). Leaving the block cancels:
        the sequence is gone within one engine step. Entering raises ContextExceeded, InvalidRequest or
        EngineUnavailable for what is refused at once. Who reads several streams gives them one lot to wait in, which
        is emptied at each arrival.
        """

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """The vectors of the request's texts.

        Cancelling drops the texts that are not computed yet. Raises ContextExceeded, InvalidRequest,
        EngineUnavailable or NativeError.
        """

    def slots(self) -> tuple[SlotState, ...]:
        """The slots as they were after the last step."""

    async def save_slot(self, slot: int, path: Path) -> SlotFile:
        """Write what the slot's last request left in the KV cache to a file, whole or not at all.

        Waits until the slot is free. Raises InvalidRequest (no such slot, nothing cached), StorageError,
        EngineUnavailable.
        """

    async def restore_slot(self, slot: int, path: Path) -> SlotFile:
        """Put a saved prompt back into the KV cache: a request that begins with it goes on from there.

        Waits until the slot is free. Raises InvalidRequest for a file that is missing, damaged or foreign (and nothing
        has changed), EngineUnavailable, also while running requests leave no room.
        """

    async def erase_slot(self, slot: int) -> int:
        """Drop what the slot's last request left in the KV cache; how many tokens that were.

        Waits until the slot is free. Raises InvalidRequest, EngineUnavailable.
        """

    def stats(self) -> EngineStats:
        """Running totals and gauges."""


type Starter = Callable[[Publish], Started]


class BridgedEngine:
    """The TextEngine over a started loop. Made by ``open_text_engine``."""

    def __init__(self, started: Started, event_buffer: int) -> None:
        self.info = started.backend.info
        self.vocab = started.backend.vocab
        self.grammars = started.backend.grammars
        self.media = started.backend.media
        self.measured_rate = started.measured_rate
        self.embedding = started.loop.embeddings.info
        self._backend = started.backend
        self._loop = started.loop
        self._event_buffer = event_buffer
        self._streams: dict[str, EventStream] = {}
        self._desk = SlotDesk(started.backend, self._send, started.backend.info.n_ctx_slot)
        self._replies: dict[str, Reply] = {}
        self.died = trio.Event()  # the thread ended by itself
        self._closed: str | None = None  # why no more requests are taken

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest, arrivals: trio.lowlevel.ParkingLot | None = None
    ) -> AsyncIterator[EventStream]:
        """See TextEngine.generate."""
        if self._closed is not None:
            raise EngineUnavailable(self._closed)
        self._loop.scheduler.validate(request)
        if request.id in self._streams:
            raise InvalidRequest(f"a request with the id {request.id} is running")
        stream = EventStream(self._event_buffer, self._wake, arrivals)
        self._streams[request.id] = stream
        self._loop.commands.put(Submit(attrs.evolve(request, prompt=row(request.prompt)), stream))
        try:
            yield stream
        finally:
            del self._streams[request.id]
            if not stream.ended:
                self._cancel(request.id)

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """See TextEngine.embed."""
        if self._closed is not None:
            raise EngineUnavailable(self._closed)
        if self.embedding is not None:
            self.embedding.validate(request)
        if request.id in self._replies:
            raise InvalidRequest(f"a request with the id {request.id} is running")
        reply = self._replies[request.id] = Reply()
        self._loop.commands.put(Embed(request, reply))
        try:
            return await reply.wait()
        finally:
            del self._replies[request.id]
            if not reply.ended:
                self._loop.commands.put(CancelEmbed(request.id))
                if self._loop.embeddings.computing == {request.id}:
                    self._loop.embeddings.abort()

    def slots(self) -> tuple[SlotState, ...]:
        """See TextEngine.slots."""
        scheduler = self._loop.scheduler
        limits = scheduler.limits
        return tuple(
            _slot_state(i, scheduler.slot(i), limits.n_ctx_slot, scheduler.n_remembered(i))
            for i in range(limits.n_slots)
        )

    async def save_slot(self, slot: int, path: Path) -> SlotFile:
        """See TextEngine.save_slot."""
        return await self._desk.save(slot, path)

    async def restore_slot(self, slot: int, path: Path) -> SlotFile:
        """See TextEngine.restore_slot."""
        return await self._desk.restore(slot, path)

    async def erase_slot(self, slot: int) -> int:
        """See TextEngine.erase_slot."""
        return await self._desk.erase(slot)

    def stats(self) -> EngineStats:
        """See TextEngine.stats."""
        return attrs.evolve(self._loop.stats)

    def close(self, reason: str) -> None:
        """Take no more requests and end the thread; what is running fails with ``reason``."""
        if self._closed is None:
            self._closed = reason
            self._loop.commands.put(Stop())
            self._backend.abort()
            self._loop.embeddings.abort()

    def thread_ended(self, reason: str) -> None:
        """The thread is gone: whoever still waits for an event of it must not wait for ever."""
        self._closed = self._closed or reason
        self.died.set()
        failed = Failed(error=EngineUnavailable(reason))
        for stream in self._streams.values():
            stream.put(failed)
        for reply in self._replies.values():
            reply.put(failed)
        self._desk.fail_all(failed.error)

    def _send(self, command: Command) -> None:
        if self._closed is not None and not isinstance(command, Cancel):
            raise EngineUnavailable(self._closed)
        self._loop.commands.put(command)

    def _cancel(self, request_id: str) -> None:
        self._loop.commands.put(Cancel(request_id))
        if request_id in self._loop.prefilling:
            self._backend.abort()

    def _wake(self) -> None:
        self._loop.commands.put(Resume())


class _Thread:
    """The engine thread and what came of it."""

    def __init__(self, start: Starter) -> None:
        self._start = start
        self._trio_token = trio.lowlevel.current_trio_token()
        self._ready = trio.Event()
        self._started: Started | None = None
        self.start_error: BaseException | None = None
        self.death: EngineError | None = None
        self.engine: BridgedEngine | None = None  # to be told of the death

    async def run(self) -> None:
        """Run the engine until its loop ends. Never raises: errors are kept for ``open_text_engine``."""
        try:
            await trio.to_thread.run_sync(
                self._body, limiter=trio.CapacityLimiter(1), thread_name="llama-box text engine"
            )
        except Exception:
            log.exception("the text engine died")
            self.death = EngineUnavailable("the text engine died; the log says why")
            if self.engine is not None:
                self.engine.thread_ended("the engine failed")
        finally:
            self._ready.set()  # nobody waits for a thread that was cancelled before it began

    async def started(self) -> Started | None:
        """Wait until the engine has started; None if it could not. Not to be cancelled: a thread cannot be."""
        with trio.CancelScope(shield=True):
            await self._ready.wait()
        if self._started is None and self.start_error is None:
            await trio.sleep_forever()  # cancelled before it began
        return self._started

    def _body(self) -> None:
        try:
            self._started = self._start(self._publish)
        except BaseException as error:
            self.start_error = error
            return
        try:
            trio.from_thread.run_sync(self._ready.set)
            self._started.loop.run()
        finally:
            self._started.loop.embeddings.close()
            self._started.backend.close()

    def _publish(self, batch: list[tuple[Mailbox, Notice]]) -> None:
        for mailbox, _ in batch:
            if isinstance(mailbox, EventStream | Errand):
                mailbox.posted()
        try:
            self._trio_token.run_sync_soon(_deliver, batch)
        except trio.RunFinishedError:
            log.debug("%d events came after the end", len(batch))


@asynccontextmanager
async def open_text_engine(start: Starter, *, event_buffer: int = 64) -> AsyncIterator[BridgedEngine]:
    """Run an engine on a thread of its own for the length of the block.

    ``start`` runs on that thread (it loads the model) and gets the publish function for its loop; what it raises is
    raised here. Leaving the block fails what still runs with EngineUnavailable and joins the thread. If the thread
    dies meanwhile, requests fail with EngineUnavailable and leaving the block raises the error.
    """
    thread = _Thread(start)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run)
            started = await thread.started()
            if started is not None:
                engine = thread.engine = BridgedEngine(started, event_buffer)
                if thread.death is not None:  # before there was an engine to tell
                    engine.thread_ended("the engine failed")
                try:
                    yield engine
                finally:
                    engine.close("the server is shutting down")
    if thread.start_error is not None:
        raise thread.start_error
    if thread.death is not None:
        raise thread.death


def _deliver(batch: list[tuple[Mailbox, Notice]]) -> None:
    """On the loop's side of the door. Must never raise: an error here would end the whole run."""
    for mailbox, event in batch:
        if isinstance(mailbox, Reply | Errand):
            mailbox.put(event)
        if isinstance(mailbox, EventStream) and not isinstance(event, SlotDone | Embedded):
            mailbox.put(event)


def _slot_state(index: int, sequence: Sequence | None, n_ctx: int, n_left: int) -> SlotState:
    if sequence is None:
        return SlotState(
            id=index, request_id=None, n_ctx=n_ctx, n_past=n_left, n_prompt=0, n_cached=0, n_decoded=0, n_remain=None,
            is_prefilling=False,
        )  # fmt: skip
    return SlotState(
        id=index,
        request_id=sequence.request.id,
        n_ctx=n_ctx,
        n_past=sequence.cells(sequence.n_past),
        n_prompt=sequence.n_prompt,
        n_cached=sequence.n_cached,
        n_decoded=sequence.n_generated,
        n_remain=sequence.n_remaining,
        is_prefilling=sequence.is_prefilling,
        prompt=tuple(token for token in sequence.request.prompt if token >= 0),
    )
