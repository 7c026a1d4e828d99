"""One handler, several paths."""

from typing import Any

import pytest

from tests.api.conftest import Client

MESSAGES = [{"role": "user", "content": "hi"}]
# What differs from request to request.
FLEETING = {"id", "created", "created_at", "generation_settings", "output"}


@pytest.mark.parametrize(
    ("path", "alias", "body"),
    [
        ("/health", "/v1/health", None),
        ("/v1/models", "/models", None),
        ("/completion", "/completions", {"prompt": "hi"}),
        ("/v1/chat/completions", "/chat/completions", {"messages": MESSAGES}),
        ("/v1/responses", "/responses", {"input": "hi"}),
    ],
)
async def test_an_alias_answers_like_its_route(client: Client, path: str, alias: str, body: Any) -> None:
    replies = [await client.send("GET" if body is None else "POST", where, body) for where in (path, alias)]
    assert [reply.status for reply in replies] == [200, 200]
    first, second = ({name: value for name, value in reply.json.items() if name not in FLEETING} for reply in replies)
    assert first
    assert first == second
