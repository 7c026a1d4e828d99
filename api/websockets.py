"""Who asks for a WebSocket gets an answer: there is none here."""

import uuid
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, Final

import trio
from hypercorn.protocol.events import Body, EndBody, Event, Request, Response, StreamClosed

from api.errors import ApiError

_REFUSAL: Final = ApiError(404, "No such route: this server has no WebSockets")


class NoWebSocket:
    """Stands where Hypercorn expects the stream of a WebSocket, which it forgets to end when it refuses one itself.

    Answers any path alike, as any other request to what is not there.
    """

    idle = False

    def __init__(
        self,
        app: object,
        config: object,
        context: object,
        task_group: Any,
        ssl: object,
        client: object,
        server: object,
        send: Callable[[Event], Awaitable[None]],
        stream_id: int,
    ) -> None:
        self._task_group = task_group
        self._send = send
        self._stream_id = stream_id
        self._scope = trio.CancelScope()

    async def handle(self, event: Event) -> None:
        """What the client sends on it. Only its wish and its leaving count."""
        match event:
            case Request():
                self._task_group.spawn(self._refuse)  # whoever calls reads: without it no client takes an answer
            case StreamClosed():
                self._scope.cancel()
            case _:
                pass

    async def _refuse(self) -> None:
        body = _REFUSAL.body()
        headers = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(body)),
            "connection": "close",  # Hypercorn takes nothing more on it
            "server": f"llama-box/{version('llama-box')}",
            "x-request-id": uuid.uuid4().hex,
        }
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        with self._scope:
            await self._send(Response(stream_id=self._stream_id, status_code=_REFUSAL.status, headers=pairs))
            await self._send(Body(stream_id=self._stream_id, data=body))
            await self._send(EndBody(stream_id=self._stream_id))
            await self._send(StreamClosed(stream_id=self._stream_id))
