"""The application with this API's route, and the vendor's own client over it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine


@pytest.fixture
def client(engine: FakeEngine) -> Client:
    return Client(make_services(engine))


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[AsyncOpenAI]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await client.app({**scope, "extensions": {}}, receive, send)

    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    async with AsyncOpenAI(base_url="http://box/v1", api_key="none", max_retries=0, http_client=http) as sdk:
        yield sdk
