"""The image engine as Trio code sees it: one worker thread, one door.

Requests go to the thread through its command queue; events come back by ``run_sync_soon``, each as it happens.
"""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import attrs
import trio

from engine.errors import EngineError, EngineUnavailable, InvalidRequest
from engine.event_queue import EventQueue
from engine.image.commands import Cancel, Mailbox, Stop, Submit
from engine.image.events import ImageEvent, ImagePreview, ImagesFailed, ImagesFinished
from engine.image.info import ImageModelInfo, ImageProgressState, ImageStats
from engine.image.loop import Publish, StartedImages
from engine.image.requests import AnyRequest
from engine.image.rules import check_request
from engine.nurseries import unwrapped

log = logging.getLogger("engine.bridge")

THREAD_NAME = "llama-box image engine"
# The library matches prompts recursively: the longest ones that are let through need this much.
STACK = 8 * 1024 * 1024
_stack_lock = threading.Lock()


class ImageEngine(Protocol):
    """A running image engine. Tests use a fake of this protocol."""

    info: ImageModelInfo

    def generate(self, request: AnyRequest) -> AbstractAsyncContextManager["ImageEventStream"]:
        """Run a request: ``async with engine.generate(r) as events: async for event in events: …``

        The iterator ends after the terminal event (ImagesFinished or ImagesFailed is the last item). Leaving the block
        cancels: a waiting request is gone at once, a running image is stopped where the device allows it, else it is
        computed to its end and thrown away. Entering raises InvalidRequest or EngineUnavailable for what is refused
        at once.
        """

    def current(self) -> ImageProgressState | None:
        """The image that is being made."""

    def stats(self) -> ImageStats:
        """Running totals and gauges."""


type ImageStarter = Callable[[Publish], StartedImages]


class ImageEventStream(EventQueue[ImageEvent], Mailbox):
    """The unread events of one request.

    A client that does not read loses previews, the oldest first, and nothing else: the rest is small, or a result.
    """

    def __init__(self, preview_buffer: int) -> None:
        super().__init__()
        self._preview_buffer = preview_buffer

    def put(self, event: ImageEvent) -> None:
        """Called in the loop: an event has arrived."""
        if self.ended:
            return
        if isinstance(event, ImagePreview):
            previews = [held for held in self._events if isinstance(held, ImagePreview)]
            if len(previews) >= self._preview_buffer:
                self._events.remove(previews[0])
        self._add(event, terminal=isinstance(event, ImagesFinished | ImagesFailed))


class BridgedImageEngine:
    """The ImageEngine over a started loop. Made by ``open_image_engine``."""

    def __init__(self, started: StartedImages, preview_buffer: int) -> None:
        self.info = started.backend.info
        self._loop = started.loop
        self._preview_buffer = preview_buffer
        self._streams: dict[str, ImageEventStream] = {}
        self.died = trio.Event()  # the thread ended by itself
        self._closed: str | None = None  # why no more requests are taken

    @asynccontextmanager
    async def generate(self, request: AnyRequest) -> AsyncIterator[ImageEventStream]:
        """See ImageEngine.generate."""
        if self._closed is not None:
            raise EngineUnavailable(self._closed)
        check_request(request, self.info)
        if request.id in self._streams:
            raise InvalidRequest(f"a request with the id {request.id} is running")
        stream = ImageEventStream(self._preview_buffer)
        self._streams[request.id] = stream
        self._loop.commands.put(Submit(request, stream))
        try:
            yield stream
        finally:
            del self._streams[request.id]
            if not stream.ended:
                self._loop.commands.put(Cancel(request.id))
                self._loop.abort(request.id)

    def current(self) -> ImageProgressState | None:
        """See ImageEngine.current."""
        return self._loop.current()

    def stats(self) -> ImageStats:
        """See ImageEngine.stats."""
        # While it makes an image the thread takes no notice of what has come in.
        left = sum(not stream.ended for stream in self._streams.values())
        return attrs.evolve(self._loop.stats, requests_processing=min(1, left), requests_deferred=max(0, left - 1))

    def close(self, reason: str) -> None:
        """Take no more requests and end the thread; what is running fails with ``reason``."""
        if self._closed is None:
            self._closed = reason
            self._loop.commands.put(Stop())
            self._loop.abort()

    def thread_ended(self, reason: str) -> None:
        """The thread is gone: whoever still waits for an event of it must not wait for ever."""
        self._closed = self._closed or reason
        self.died.set()
        for stream in self._streams.values():
            stream.put(ImagesFailed(error=EngineUnavailable(reason)))


class _ImageThread:
    """The image thread and what came of it. Not one of Trio's: those have a stack of the system's choice."""

    def __init__(self, start: ImageStarter) -> None:
        self._start = start
        self._trio_token = trio.lowlevel.current_trio_token()
        self.ready = trio.Event()  # it has started, or it cannot
        self.ended = trio.Event()
        self.started: StartedImages | None = None
        self.start_error: BaseException | None = None
        self.death: EngineError | None = None
        self._thread = threading.Thread(target=self._body, name=THREAD_NAME)

    def run(self) -> None:
        """Start the thread."""
        with _stack_lock:
            before = threading.stack_size(STACK)
            try:
                self._thread.start()
            finally:
                threading.stack_size(before)

    async def join(self) -> None:
        """Wait until the thread has ended. Not to be cancelled: a thread cannot be."""
        with trio.CancelScope(shield=True):
            await self.ended.wait()
            self._thread.join()  # it is past its last line

    def _body(self) -> None:
        try:
            self._run()
        finally:
            self._tell(self.ready.set)
            self._tell(self.ended.set)

    def _run(self) -> None:
        try:
            self.started = self._start(self._publish)
        except BaseException as error:
            self.start_error = error
            return
        self._tell(self.ready.set)
        try:
            self.started.loop.run()
        except BaseException:
            log.exception("the image engine died")
            self.death = EngineUnavailable("the image engine died; the log says why")
        finally:
            self.started.backend.close()

    def _publish(self, batch: list[tuple[Mailbox, ImageEvent]]) -> None:
        self._tell(_deliver, batch)

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._trio_token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            log.debug("an event came after the end")


@asynccontextmanager
async def open_image_engine(start: ImageStarter, *, preview_buffer: int = 2) -> AsyncIterator[BridgedImageEngine]:
    """Run an image engine on a thread of its own for the length of the block.

    ``start`` runs on that thread (it loads the model) and gets the publish function for its loop; what it raises is
    raised here. Leaving the block fails what still runs with EngineUnavailable and joins the thread, which ends as soon
    as a running image can be stopped. If the thread dies meanwhile, requests fail with EngineUnavailable and leaving
    the block raises the error.
    """
    thread = _ImageThread(start)
    thread.run()
    with trio.CancelScope(shield=True):
        await thread.ready.wait()
    if thread.started is None:
        await thread.join()
        assert thread.start_error is not None, "a thread that has not started says why"
        raise thread.start_error
    engine = BridgedImageEngine(thread.started, preview_buffer)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, thread, engine)
            try:
                yield engine
            finally:
                engine.close("the server is shutting down")
                await thread.join()
                nursery.cancel_scope.cancel()
    if thread.death is not None:
        raise thread.death


async def _watch(thread: _ImageThread, engine: BridgedImageEngine) -> None:
    await thread.ended.wait()
    engine.thread_ended("the image engine failed" if thread.death is not None else "the server is shutting down")


def _deliver(batch: list[tuple[Mailbox, ImageEvent]]) -> None:
    """On the loop's side of the door. Must never raise: an error here would end the whole run."""
    for mailbox, event in batch:
        if isinstance(mailbox, ImageEventStream):
            mailbox.put(event)
