"""Server-sent events: a generation as a response body."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, Protocol, Self

import msgspec
from quart.wrappers.response import ResponseBody

from api.errors import ApiError, as_api_error
from api.generation import Broken, Generation, Item
from engine.text.events import Finished, PrefillProgress, Timings, Tokens

PING_SECONDS: Final = 15.0
PING: Final = b": ping\n\n"
DONE: Final = b"data: [DONE]\n\n"
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}

type RenderedPart = PrefillProgress | Tokens | Finished


class StreamRenderer(Protocol):
    """Turns what the choices get into events of one API."""

    def feed(self, choice: int, part: RenderedPart) -> bytes:
        """Whole events, or b"" where there is nothing to say."""

    def end(self, timings: Sequence[Timings]) -> bytes:
        """What follows when all choices have finished."""

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that cannot go on."""

    @property
    def ping(self) -> bytes:
        """What keeps a silent connection alive."""


class PlainEnds:
    """Failures and silences as most APIs tell them: for renderers to inherit."""

    def failed(self, error: ApiError) -> bytes:
        """See ``StreamRenderer.failed``."""
        return error_event(error)

    @property
    def ping(self) -> bytes:
        """See ``StreamRenderer.ping``."""
        return PING


class Head:
    """Events that all begin with the same fields: those are encoded once."""

    def __init__(self, **fields: object) -> None:
        self.start = b"data: " + msgspec.json.encode(fields)[:-1] + b","

    def event(self, body: dict[str, object]) -> bytes:
        """An event of the common fields and those of ``body``, of which there must be one."""
        return self.start + msgspec.json.encode(body)[1:] + b"\n\n"


def data_event(body: object) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """A failure after the first byte, readable by SSE clients (data) and line readers (error)."""
    return b"error: " + msgspec.json.encode(error.envelope()) + b"\ndata: " + error.body() + b"\n\n"


class EventBody(ResponseBody):
    """A response body of events, an async iterator. Holds no scope between its items."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> bytes:
        """One event or more."""


class EventStream(EventBody):
    """The response body of a streamed generation."""

    def __init__(self, generation: Generation, renderer: StreamRenderer) -> None:
        self._generation = generation
        self._renderer = renderer
        self._opening: list[Item] | None = None  # what came before the response had begun; None: a silence
        self._opened = False
        self._done = False

    async def open(self) -> None:
        """Wait for the first item, but not for long. Raises ApiError when it is a failure: there is still a status."""
        self._generation.listen()
        self._opening = await self._generation.receive()
        for _, part in self._opening or ():
            if isinstance(part, Broken):
                raise part.error

    async def __anext__(self) -> bytes:
        if self._done:
            raise StopAsyncIteration
        self._generation.listen()
        while True:
            items = await self._next_items()
            if items is None:
                return self._renderer.ping
            if chunk := self._render(items):
                return chunk

    async def _next_items(self) -> list[Item] | None:
        """None after a silence."""
        if self._opened:
            return await self._generation.receive()
        self._opened = True
        return self._opening

    def _render(self, items: list[Item]) -> bytes:
        try:
            return b"".join(self._events(items))
        except Exception as error:
            self._done = True
            return self._renderer.failed(as_api_error(error))

    def _events(self, items: list[Item]) -> list[bytes]:
        assert items, "a generation ends with a terminal item"
        events: list[bytes] = []
        for choice, part in items:
            if isinstance(part, Broken):
                self._done = True
                return [*events, self._renderer.failed(part.error)]
            events.append(self._renderer.feed(choice, part))
        if not self._generation.left:
            self._done = True
            events.append(self._renderer.end(self._generation.timings))
        return events
