"""The application with this API's route, and the vendor's own client over it."""

from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI

from tests.api.conftest import Client
from tests.api.loopback import over


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[AsyncOpenAI]:
    http = over(client)
    async with AsyncOpenAI(base_url="http://box/v1", api_key="none", max_retries=0, http_client=http) as sdk:
        yield sdk
