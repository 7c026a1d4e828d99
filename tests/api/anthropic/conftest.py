"""The application with this API's routes, and the vendor's own client over it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from anthropic import AsyncAnthropic

from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine


@pytest.fixture
def client(engine: FakeEngine) -> Client:
    return Client(make_services(engine))


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[AsyncAnthropic]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await client.app({**scope, "extensions": {}}, receive, send)

    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    async with AsyncAnthropic(base_url="http://box", api_key="none", max_retries=0, http_client=http) as sdk:
        yield sdk
