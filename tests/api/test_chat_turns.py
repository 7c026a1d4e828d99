"""Tools and reasoning through POST /v1/chat/completions: what streams accumulate to, and by which rules."""

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing

from engine.text.events import FinishReason, PrefillProgress
from tests.api.chat_stream import Streamed, assemble
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine, say

CHAT = "/v1/chat/completions"
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("get", "put")
]
ASK = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
REASONING = "<think>\nIs it é?\n</think>\n\n"
FIRST = '<tool_call>\n{"name": "get", "arguments": {"a": "é", "b": [1, {}]}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "put", "arguments": {}}\n</tool_call>'
OUTPUT = f"{REASONING}Well.\n{FIRST}\n{SECOND}"
MESSAGE = {
    "role": "assistant",
    "content": "Well.",
    "reasoning_content": "Is it é?",
    "tool_calls": [
        {"id": "call_0", "type": "function", "function": {"name": "get", "arguments": '{"a": "é", "b": [1, {}]}'}},
        {"id": "call_1", "type": "function", "function": {"name": "put", "arguments": "{}"}},
    ],
}


def cut(text: str, *at: int) -> list[str]:
    return [text[a:b] for a, b in itertools.pairwise([0, *at, len(text)])]


async def streamed(client: Client, body: dict[str, Any] = ASK) -> list[Streamed]:
    reply = await client.post(CHAT, {**body, "stream": True})
    assert reply.status == 200, reply.body
    return assemble(reply.events)


async def test_whole(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*OUTPUT)
    reply = await client.post(CHAT, ASK)
    (choice,) = reply.json["choices"]
    assert choice["message"] == {**MESSAGE, "refusal": None}
    assert choice["finish_reason"] == "tool_calls"
    details = reply.json["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == len(REASONING.encode())


async def test_calls_alone_have_null_for_content(client: Client, engine: FakeEngine) -> None:
    engine.script = say(FIRST)
    message = (await client.post(CHAT, ASK)).json["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get"]


async def test_without_tools_a_call_is_content(client: Client, engine: FakeEngine) -> None:
    engine.script = say(FIRST)
    for change in ({"tools": None}, {"tool_choice": "none"}):
        (choice,) = (await client.post(CHAT, {**ASK, **change})).json["choices"]
        assert choice["message"] == {"role": "assistant", "content": FIRST, "refusal": None}
        assert choice["finish_reason"] == "stop"


async def test_a_stream_adds_up_to_the_whole_reply(client: Client, engine: FakeEngine) -> None:
    for pieces in [[OUTPUT], list(OUTPUT), *(cut(OUTPUT, at) for at in range(1, len(OUTPUT)))]:
        engine.script = say(*pieces)
        (choice,) = await streamed(client)
        assert choice.message == MESSAGE, pieces
        assert choice.finish_reason == "tool_calls"


async def test_a_limit_anywhere_means_length(client: Client, engine: FakeEngine) -> None:
    for at in range(len(OUTPUT)):
        await _check_limit(client, engine, at)


async def _check_limit(client: Client, engine: FakeEngine, at: int) -> None:
    engine.script = say(OUTPUT[: at // 2], OUTPUT[at // 2 : at], reason=FinishReason.LIMIT)
    (choice,) = await streamed(client)
    (whole,) = (await client.post(CHAT, ASK)).json["choices"]
    assert choice.finish_reason == whole["finish_reason"] == "length"
    told = {**whole["message"], "content": whole["message"]["content"] or ""}
    assert choice.message == {name: value for name, value in told.items() if name != "refusal"}
    for call, full in zip(choice.message.get("tool_calls", []), MESSAGE["tool_calls"], strict=False):
        assert (call["id"], call["function"]["name"]) == (full["id"], full["function"]["name"])
        assert full["function"]["arguments"].startswith(call["function"]["arguments"])


async def test_a_stop_string_leaves_the_calls(client: Client, engine: FakeEngine) -> None:
    engine.script = say(FIRST, reason=FinishReason.WORD, stopping_word="END")
    (choice,) = await streamed(client, {**ASK, "stop": "END"})
    assert choice.finish_reason == "tool_calls"


async def test_interleaved_choices(client: Client, engine: FakeEngine) -> None:
    outputs = {"0": OUTPUT, "1": f"Hm.\n{SECOND}"}
    engine.script = lambda request: say(*outputs[request.id[-1]])(request)
    reply = await client.post(CHAT, {**ASK, "n": 2, "stream": True})
    *chunks, _ = reply.events
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert order != sorted(order), "the choices come side by side"
    first, second = assemble(reply.events)
    calls = [*first.message["tool_calls"], *second.message["tool_calls"]]
    assert len({call["id"] for call in calls}) == 3
    assert [call["function"]["name"] for call in calls] == ["get", "put", "put"]
    assert (first.message["content"], second.message["content"]) == ("Well.", "Hm.")


@pytest.mark.parametrize("pieces", [[OUTPUT], list(OUTPUT), cut(OUTPUT, 30, 31, 60)])
async def test_no_token_is_lost(client: Client, engine: FakeEngine, pieces: Sequence[str]) -> None:
    engine.script = say(*pieces)
    body = {**ASK, "logprobs": True, "return_tokens": True}
    (choice,) = await streamed(client, body)
    (whole,) = (await client.post(CHAT, body)).json["choices"]
    assert choice.tokens == whole["tokens"] == list(OUTPUT.encode())
    assert choice.logprobs == whole["logprobs"]["content"]
    assert bytes(byte for entry in choice.logprobs for byte in entry["bytes"]) == OUTPUT.encode()


async def test_figures_go_with_the_text_they_belong_to(client: Client, engine: FakeEngine) -> None:
    engine.script = say("Well.", "\n<tool_call>", '\n{"name": "get"', ', "arguments": {}}', "\n</tool_call>")
    *chunks, _ = (await client.post(CHAT, {**ASK, "logprobs": True, "stream": True})).events
    told = [
        ("".join(entry["token"] for entry in (choice["logprobs"] or {"content": []})["content"]), choice["delta"])
        for choice in (chunk["choices"][0] for chunk in chunks)
    ]
    texts = [text for text, _ in told]
    assert texts[:2] == ["", "Well."]
    call = next(i for i, (_, delta) in enumerate(told) if "tool_calls" in delta)
    assert texts[call].startswith("\n<tool_call>\n{"), "what was held back comes with what it became"
    assert "".join(texts) == 'Well.\n<tool_call>\n{"name": "get", "arguments": {}}\n</tool_call>'


async def test_usage_of_a_stream(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*OUTPUT)
    reply = await client.post(CHAT, {**ASK, "n": 2, "stream": True, "stream_options": {"include_usage": True}})
    *chunks, last, _ = reply.events
    assert last["choices"] == []
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2 * len(REASONING.encode())
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_progress_and_timings(client: Client, engine: FakeEngine) -> None:
    progress = PrefillProgress(total=10, cache=2, processed=6, time_ms=1.5)
    engine.script = lambda request: [progress, *say(FIRST)(request)]
    body = {**ASK, "stream": True, "return_progress": True, "timings_per_token": True}
    role, first, *calls, last, _ = (await client.post(CHAT, body)).events
    assert "prompt_progress" not in role
    assert first["prompt_progress"]["processed"] == 6
    assert all(call["timings"]["predicted_n"] == len(FIRST.encode()) for call in [*calls, last])


@pytest.mark.parametrize("pieces", [[OUTPUT], list(OUTPUT)])
async def test_reasoning_in_content(engine: FakeEngine, pieces: Sequence[str]) -> None:
    services = make_services(engine)
    settings = services.settings
    services.settings = attrs.evolve(settings, chat=attrs.evolve(settings.chat, reasoning_in_content=True))
    client = Client(services)
    engine.script = say(*pieces)
    reply = await client.post(CHAT, ASK)
    message = reply.json["choices"][0]["message"]
    assert message["content"] == "<think>\nIs it é?\n</think>\n\nWell."
    assert "reasoning_content" not in message
    assert reply.json["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    (choice,) = await streamed(client)
    assert choice.message["content"] == message["content"]
    assert choice.message["tool_calls"] == message["tool_calls"] == MESSAGE["tool_calls"]
    engine.script = say("<think>\nI", reason=FinishReason.LIMIT)
    (choice,) = await streamed(client)
    assert choice.message["content"] == "<think>\nI\n</think>"


async def test_what_the_plan_needs_reaches_the_engine(client: Client, engine: FakeEngine) -> None:
    prompts = client.services.prompts
    prompts.visible, prompts.stop = frozenset({7}), ("<|call|>", "END")
    await client.post(CHAT, {**ASK, "stop": ["END"], "tool_choice": "required", "n": 2})
    for request in engine.opened:
        assert request.visible == {7}
        assert request.stop == ("END", "<|call|>")
        assert msgspec.json.decode(request.grammar.spec.source) == [None, None, ["get", "put"]]
    assert len({id(request.grammar) for request in engine.opened}) == 1, "compiled once"
    client.services.prompts.stop = ()
    await client.post(CHAT, ASK)
    assert engine.opened[-1].grammar is None


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_in_the_middle_of_a_call_ends_it(client: Client, engine: FakeEngine, stream: bool) -> None:
    gate = trio.Event()  # never set
    engine.script = lambda request: [*say(FIRST[:20])(request)[:-1], gate]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, CHAT, {**ASK, "n": 2, "stream": stream})
        await trio.testing.wait_all_tasks_blocked()
        assert len(engine.opened) == 2
        assert engine.closed == []
        nursery.cancel_scope.cancel()
    assert sorted(engine.closed) == sorted(request.id for request in engine.opened)
    assert len(client.services.running) == 0
