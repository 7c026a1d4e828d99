"""HTTP clients of vendors straight into the application."""

from typing import Any

import httpx2

from tests.api.conftest import Client


def over(client: Client) -> httpx2.AsyncClient:
    """What an SDK takes for its connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await client.app({**scope, "extensions": {}}, receive, send)

    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
