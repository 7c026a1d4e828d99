"""The application with this API's routes, and the vendor's own client over it."""

from collections.abc import AsyncIterator

import pytest
from anthropic import AsyncAnthropic

from tests.api.conftest import Client
from tests.api.loopback import over


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url="http://box", api_key="none", max_retries=0, http_client=over(client)) as sdk:
        yield sdk
