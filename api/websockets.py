"""Who asks for a WebSocket gets an answer: there is none here."""

import uuid
from importlib.metadata import version
from typing import Any, Final

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart_trio.asgi import TrioASGIWebsocketConnection

from api.errors import ApiError

_REFUSAL: Final = ApiError(404, "No such route: this server has no WebSockets")


class NoWebSocket(TrioASGIWebsocketConnection):
    """Answers any path alike: without a route Quart's own would fail, and Hypercorn answer with a bare 500."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Refuse the handshake as any other request to what is not there."""
        body = _REFUSAL.body()
        headers = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(body)),
            "connection": "close",  # Hypercorn takes nothing more on it
            "server": f"llama-box/{version('llama-box')}",
            "x-request-id": uuid.uuid4().hex,
        }
        start: Any = {
            "type": "websocket.http.response.start",
            "status": _REFUSAL.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await send(start)
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
