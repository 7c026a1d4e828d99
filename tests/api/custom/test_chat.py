"""Custom tools through POST /v1/chat/completions, and through the vendor's client."""

import json
from typing import Any

import pytest
import trio
from openai import OpenAI

from engine.text.events import FinishReason
from llamabox.chat.ask import ToolChoice
from tests.api.chat_stream import assemble
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, say
from tests.api.test_loopback import serving
from tests.api.test_openapi import EVENTS, check_reply, request_errors

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "hi"}
LARK = {"syntax": "lark", "definition": 'start: "*** Begin Patch" /(.|\\n)*/'}
PATCH: dict[str, Any] = {
    "type": "custom",
    "custom": {"name": "patch", "description": "Edits files.", "format": {"type": "grammar", "grammar": LARK}},
}
GET: dict[str, Any] = {"type": "function", "function": {"name": "get"}}
ASK: dict[str, Any] = {"messages": [USER], "tools": [GET, PATCH]}
TEXT = '*** Begin Patch\n+"é"\\n\t😀\n'


def call(name: str, arguments: dict[str, Any], *, ascii_only: bool = True) -> str:
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=ascii_only)
    return f"<tool_call>\n{body}\n</tool_call>"


OUTPUT = "\n".join(["Well.", call("patch", {"input": TEXT}), call("get", {"input": 5}), call("patch", {"input": ""})])
CALLS = [
    {"id": "call_0", "type": "custom", "custom": {"name": "patch", "input": TEXT}},
    {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"input": 5}'}},
    {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": ""}},
]


async def test_whole(client: Client, engine: FakeEngine) -> None:
    for pieces in ([OUTPUT], list(OUTPUT)):
        engine.script = say(*pieces)
        reply = await client.post(CHAT, ASK)
        (choice,) = reply.json["choices"]
        assert choice["message"]["tool_calls"] == CALLS
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Well.", "tool_calls")
        check_reply("POST", CHAT, reply.json)
    assert request_errors(CHAT, ASK) == []


async def test_a_stream_adds_up_to_the_whole_reply(client: Client, engine: FakeEngine) -> None:
    for pieces in (list(OUTPUT), *([OUTPUT[:at], OUTPUT[at:]] for at in range(1, len(OUTPUT)))):
        engine.script = say(*pieces)
        events = (await client.post(CHAT, {**ASK, "stream": True})).events
        for event in events[:-1]:
            check_reply("POST", CHAT, event, media=EVENTS)
        (choice,) = assemble(events)
        assert choice.message["tool_calls"] == CALLS, pieces
        assert choice.finish_reason == "tool_calls"


async def test_text_streams(client: Client, engine: FakeEngine) -> None:
    engine.script = say('<tool_call>\n{"name": "patch", "arguments": {"input": "a', "b\\", "n", '"}}\n</tool_call>')
    *chunks, _, _ = (await client.post(CHAT, {**ASK, "stream": True})).events
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    started = {"index": 0, "id": "call_0", "type": "custom", "custom": {"name": "patch", "input": ""}}
    more = [{"index": 0, "custom": {"input": text}} for text in ("a", "b", "\n")]
    assert deltas[1:] == [{"tool_calls": [part]} for part in (started, *more)]


async def test_choices_keep_their_calls_apart(client: Client, engine: FakeEngine) -> None:
    outputs = {"0": call("patch", {"input": TEXT}), "1": call("get", {"input": TEXT}, ascii_only=False)}
    engine.script = lambda request: say(*outputs[request.id[-1]])(request)
    first, second = assemble((await client.post(CHAT, {**ASK, "n": 2, "stream": True})).events)
    assert first.message["tool_calls"][0]["custom"]["input"] == TEXT
    assert json.loads(second.message["tool_calls"][0]["function"]["arguments"]) == {"input": TEXT}


async def test_no_token_of_a_call_is_lost(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*OUTPUT)
    body = {**ASK, "logprobs": True, "return_tokens": True}
    (choice,) = assemble((await client.post(CHAT, {**body, "stream": True})).events)
    assert bytes(choice.tokens).decode() == "".join(entry["token"] for entry in choice.logprobs) == OUTPUT


async def test_a_limit_leaves_a_beginning(client: Client, engine: FakeEngine) -> None:
    output = call("patch", {"input": TEXT}, ascii_only=False)
    for length in range(len(output)):
        engine.script = say(*output[:length], reason=FinishReason.LIMIT)
        (streamed,) = assemble((await client.post(CHAT, {**ASK, "stream": True})).events)
        (whole,) = (await client.post(CHAT, ASK)).json["choices"]
        assert streamed.finish_reason == whole["finish_reason"] == "length"
        calls = whole["message"].get("tool_calls", [])
        assert streamed.message.get("tool_calls", []) == calls
        assert all(TEXT.startswith(found["custom"]["input"]) for found in calls)


async def test_what_the_model_is_asked(client: Client) -> None:
    named = {"type": "custom", "custom": {"name": "patch"}}
    mode = {"mode": "required", "tools": [named]}
    for choice, wanted in (
        (None, (ToolChoice.AUTO, None, ["get", "patch"])),
        (named, (ToolChoice.REQUIRED, "patch", ["get", "patch"])),
        ({"type": "allowed_tools", "allowed_tools": mode}, (ToolChoice.REQUIRED, None, ["patch"])),
    ):
        assert (await client.post(CHAT, {**ASK, "tool_choice": choice})).status == 200
        ask = client.services.prompts.asks[-1]
        assert (ask.choice, ask.named, [tool.name for tool in ask.tools]) == wanted
        assert ask.tools[-1].description.endswith(LARK["definition"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [{"type": "custom", "custom": {"name": "?"}}]}, "tools[0].custom.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "f", "format": LARK}}]}, "tools[0].custom.format.type"),
        ({"tools": [PATCH, PATCH]}, "tools[1].custom.name"),
        ({"tools": [PATCH, {"type": "function", "function": {"name": "patch"}}]}, "tools[1].function.name"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice.custom"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "put"}}}, "tool_choice.custom.name"),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "custom"}]},
                }
            },
            "tool_choice.allowed_tools.tools[0].custom.name",
        ),
        *(
            (
                {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", **custom}]}]},
                param,
            )
            for custom, param in (
                ({}, "messages[1].tool_calls[0].custom"),
                ({"custom": {"name": "patch"}}, "messages[1].tool_calls[0].custom"),
                ({"custom": {"name": "patch", "input": 5}}, "messages[1].tool_calls[0].custom.input"),
            )
        ),
    ],
)
async def test_what_is_wrong_is_named(client: Client, engine: FakeEngine, fields: dict[str, Any], param: str) -> None:
    reply = await client.post(CHAT, {**ASK, **fields})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert engine.opened == []


async def test_the_vendors_client(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*OUTPUT)
    async with serving(client.services) as url:
        results = await trio.to_thread.run_sync(_use_openai, f"{url}/v1")
    _, said, *told = client.services.prompts.asks[-1].messages
    assert [(call["id"], call["type"], call["function"]["name"]) for call in said["tool_calls"]] == [
        ("call_0", "function", "patch"),
        ("call_1", "function", "get"),
        ("call_2", "function", "patch"),
    ]
    arguments = [json.loads(call["function"]["arguments"]) for call in said["tool_calls"]]
    assert arguments == [{"input": TEXT}, {"input": 5}, {"input": ""}]
    assert told == results


def _use_openai(url: str) -> list[Any]:
    """A whole answer, a stream, and a conversation that goes on from the answer. Returns the results of its calls."""
    asked: dict[str, Any] = {"model": "tiny", "tools": ASK["tools"]}
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        message = client.chat.completions.create(messages=[USER], **asked).choices[0].message
        first, second, _ = message.tool_calls
        assert (first.type, first.custom.name, first.custom.input) == ("custom", "patch", TEXT)
        assert (second.type, second.function.arguments) == ("function", '{"input": 5}')
        with client.chat.completions.create(messages=[USER], stream=True, **asked) as stream:
            parts = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or ()]
        # Its types have no field for this part of a stream, but give it on.
        assert "".join(part.model_extra["custom"]["input"] for part in parts if part.index == 0) == TEXT
        results = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls]
        history = [USER, message.model_dump(exclude_none=True), *results]
        client.chat.completions.create(messages=history, **asked)
    return results
