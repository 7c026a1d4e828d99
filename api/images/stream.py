"""Server-sent events: an image job as a response body."""

from typing import Protocol

import trio

from api.errors import as_api_error
from api.images.run import ImageRun
from api.sse import PING, PING_SECONDS, EventBody, error_event
from engine.image.events import ImageEvent, ImagesFinished


class ImageRenderer(Protocol):
    """Turns what a job says into events of one form."""

    async def feed(self, event: ImageEvent) -> bytes:
        """Whole events, or b"" where there is nothing to say."""


class ImageEventBody(EventBody):
    """The response body of a streamed job."""

    def __init__(self, run: ImageRun, renderer: ImageRenderer) -> None:
        self._run = run
        self._renderer = renderer
        self._first: list[ImageEvent] = []
        self._done = False

    async def open(self) -> None:
        """Wait for the first event, but not for long. Raises ApiError when the job is refused: there is a status."""
        with trio.move_on_after(PING_SECONDS):
            self._first.append(await self._run.receive())

    async def __anext__(self) -> bytes:
        if self._done:
            raise StopAsyncIteration
        try:
            chunk = await self._next()
        except Exception as error:
            self._done = True
            return error_event(as_api_error(error))
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _next(self) -> bytes:
        """The next events, or b"" where none follow."""
        deadline = trio.current_time() + PING_SECONDS
        while True:
            event = self._first.pop() if self._first else None
            if event is None:
                with trio.move_on_at(deadline):
                    event = await self._run.receive()
            if event is None:
                return PING  # a silence: after the terminal event nothing is asked for
            self._done = isinstance(event, ImagesFinished)
            if (chunk := await self._renderer.feed(event)) or self._done:
                return chunk
