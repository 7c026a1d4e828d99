"""functions and function_call, OpenAI's older way of calling."""

from typing import Any

import pytest

from api.legacy_functions import modern
from llamabox.chat.ask import ToolChoice
from llamabox.chat.formats.base import Tool
from tests.api.chat_stream import assemble
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, say

CHAT = "/v1/chat/completions"
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
ASK = {
    "messages": [{"role": "user", "content": "hi"}],
    "functions": [{"name": "f", "description": "Does.", "parameters": {"type": "object"}}, {"name": "g"}],
}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, (ToolChoice.AUTO, None)),
        ("auto", (ToolChoice.AUTO, None)),
        ("none", (ToolChoice.NONE, None)),
        ({"name": "g"}, (ToolChoice.REQUIRED, "g")),
    ],
)
async def test_functions_are_tools(client: Client, choice: Any, expected: tuple[ToolChoice, str | None]) -> None:
    assert (await client.post(CHAT, {**ASK, "function_call": choice})).status == 200
    (ask,) = client.services.prompts.asks
    assert ask.tools == (Tool(name="f", description="Does.", parameters={"type": "object"}), Tool(name="g"))
    assert (ask.choice, ask.named) == expected
    assert not ask.parallel, "the reply has room for one call"


async def test_the_reply_calls_a_function(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*f"{CALL}\n{CALL}")
    called = {"name": "f", "arguments": '{"a": 1}'}
    (whole,) = (await client.post(CHAT, ASK)).json["choices"]
    expected = {"role": "assistant", "content": None, "refusal": None, "function_call": called}
    assert (whole["message"], whole["finish_reason"]) == (expected, "function_call")
    reply = await client.post(CHAT, {**ASK, "stream": True, "logprobs": True})
    (choice,) = assemble(reply.events)
    assert choice.message == {"role": "assistant", "content": "", "function_call": called}
    assert choice.finish_reason == "function_call"
    assert len(choice.logprobs) > len(CALL) + 1, "the tokens of what the form has no room for too"


async def test_a_reply_without_a_call_is_as_always(client: Client) -> None:
    (whole,) = (await client.post(CHAT, ASK)).json["choices"]
    assert whole["message"] == {"role": "assistant", "content": "Hello world", "refusal": None}
    assert whole["finish_reason"] == "stop"


async def test_history_in_the_older_form(client: Client) -> None:
    called = {"name": "f", "arguments": "{}"}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": called},
        {"role": "function", "name": "f", "content": "7"},
    ]
    assert (await client.post(CHAT, {**ASK, "messages": messages})).status == 200
    assert client.services.prompts.asks[0].messages == [
        messages[0],
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
        },
        {"role": "tool", "name": "f", "content": "7", "tool_call_id": "call_1"},
    ]


def test_newer_messages_stay() -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "tool_calls": [{"id": "1"}]}]
    assert modern(messages) == messages
    assert modern([{**messages[1], "function_call": None}]) == messages[1:]
