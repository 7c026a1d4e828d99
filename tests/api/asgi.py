"""Drives an ASGI application with one request. Quart's own client stops at responses of more than ten parts."""

from collections.abc import Mapping
from typing import Any

import trio

type Messages = list[dict[str, Any]]


async def exchange(
    app: Any,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, Any] | None = None,
) -> Messages:
    """Everything that the application sends in answer."""
    path, _, query = target.partition("?")
    given = {"Host": "test", "Content-Length": str(len(body)), **(headers or {})}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "extensions": dict(extensions or {}),
    }
    arriving, received = trio.open_memory_channel[dict[str, Any]](1)
    arriving.send_nowait({"type": "http.request", "body": body, "more_body": False})
    sent: Messages = []

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    with arriving, received:
        await app(scope, received.receive, send)
    return sent
