"""What stands before the route speaks this API's language too."""

import pytest

from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine

PATH = "/v1/messages"
ASK = {"max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def locked(engine: FakeEngine) -> Client:
    return Client(make_services(engine, api_keys=("secret",)))


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}])
async def test_without_the_key(locked: Client, headers: dict[str, str]) -> None:
    reply = await locked.post(PATH, ASK, headers)
    assert reply.status == 401
    assert reply.json["type"] == "error"
    assert reply.json["error"] == {"type": "authentication_error", "message": "Invalid API Key"}
    assert reply.json["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize("headers", [{"x-api-key": "secret"}, {"Authorization": "Bearer secret"}])
async def test_with_the_key(locked: Client, headers: dict[str, str]) -> None:
    assert (await locked.post(PATH, ASK, headers)).status == 200


async def test_the_key_header_counts_only_here(locked: Client) -> None:
    asked = {"messages": ASK["messages"]}
    assert (await locked.post("/v1/chat/completions", asked, {"x-api-key": "secret"})).status == 401


async def test_while_loading(engine: FakeEngine) -> None:
    reply = await Client(make_services(engine, ready=False)).post(PATH, ASK)
    assert (reply.status, reply.json["error"]["type"]) == (503, "overloaded_error")
