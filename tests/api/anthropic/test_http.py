"""POST /v1/messages and /v1/messages/count_tokens through the application and the vendor's client."""

from typing import Any

import pytest
from anthropic import AsyncAnthropic, BadRequestError

from api.errors import ApiError
from engine.errors import ContextExceeded
from engine.text.events import FinishReason
from llamabox.chat.ask import ToolChoice
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, say
from tests.api.responses.play import CALLS

PATH = "/v1/messages"
HI: list[Any] = [{"role": "user", "content": "hi"}]
BODY = {"model": "tiny", "max_tokens": 9, "messages": HI}
ADD: Any = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}


async def test_whole(sdk: AsyncAnthropic, client: Client, engine: FakeEngine) -> None:
    engine.script = say("Hello", " world", cache_n=3)
    message = await sdk.messages.create(
        model="tiny",
        max_tokens=9,
        messages=HI,
        system="be brief",
        metadata={"user_id": "me"},
        extra_body={"temperature": 0.25, "top_k": 7},
    )
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "tiny")
    assert [block.text for block in message.content] == ["Hello world"]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    [request] = engine.opened
    assert (request.max_tokens, request.sampling.temperature, request.sampling.top_k) == (9, 0.25, 7)
    usage = message.usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.output_tokens) == (3, 0, 11)
    assert usage.input_tokens == len(request.prompt) - 3
    [ask] = client.services.prompts.asks
    assert ask.messages == [{"role": "system", "content": "be brief"}, *HI]


async def test_tools_there_and_back(sdk: AsyncAnthropic, client: Client, engine: FakeEngine) -> None:
    engine.script = say("<think>\nhm</think>\n\nWell. ", CALLS)
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    first = await sdk.messages.create(model="tiny", max_tokens=99, messages=HI, tools=[ADD], tool_choice=choice)
    thinking, text, use = first.content
    assert (thinking.thinking, text.text) == ("hm", "Well.")
    assert (use.id, use.name, use.input) == ("toolu_call_0", "add", {"a": 1, "b": "é"})
    assert first.stop_reason == "tool_use"
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "3"}
    messages: Any = [*HI, first.to_param(), {"role": "user", "content": [result]}]
    await sdk.messages.create(model="tiny", max_tokens=99, messages=messages, tools=[ADD])
    asked, again = client.services.prompts.asks
    assert (asked.choice, asked.parallel) == (ToolChoice.REQUIRED, False)
    call = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":"é"}'}}
    assert again.messages == [
        *HI,
        {"role": "assistant", "content": "Well.", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "3"},
    ]


async def test_stream(sdk: AsyncAnthropic, engine: FakeEngine) -> None:
    engine.script = say("<think>\nhm</think>\n\n", "Let me ", "see. ", *CALLS)
    async with sdk.messages.stream(model="tiny", max_tokens=99, messages=HI, tools=[ADD]) as stream:
        texts = "".join([text async for text in stream.text_stream])
        message = await stream.get_final_message()
    assert texts == "Let me see."
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[2].input == {"a": 1, "b": "é"}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == len(f"<think>\nhm</think>\n\nLet me see. {CALLS}".encode())


async def test_prefill(sdk: AsyncAnthropic, client: Client) -> None:
    messages: Any = [*HI, {"role": "assistant", "content": "The answer is ("}]
    await sdk.messages.create(model="tiny", max_tokens=9, messages=messages)
    [ask] = client.services.prompts.asks
    assert (ask.continue_final_message, ask.add_generation_prompt) == (True, False)


async def test_stop_sequences(sdk: AsyncAnthropic, engine: FakeEngine) -> None:
    engine.script = say("one ", reason=FinishReason.WORD, stopping_word="two")
    message = await sdk.messages.create(model="tiny", max_tokens=9, messages=HI, stop_sequences=["two"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "two")
    assert engine.opened[0].stop == ("two",)


async def test_count_tokens(sdk: AsyncAnthropic, client: Client, engine: FakeEngine) -> None:
    count = await sdk.messages.count_tokens(model="tiny", messages=HI, system="be brief", tools=[ADD])
    reply = await client.post(PATH, {**BODY, "system": "be brief", "tools": [ADD]})
    assert count.input_tokens == reply.json["usage"]["input_tokens"] == len(engine.opened[0].prompt)
    assert len(engine.opened) == 1
    first, second = client.services.prompts.asks
    assert first == second


async def test_a_schema_reaches_the_engine(client: Client, engine: FakeEngine) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    await client.post(PATH, {**BODY, "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    assert client.services.prompts.asks[0].schema == schema
    assert engine.opened[0].grammar is not None


async def test_errors_are_of_this_api(sdk: AsyncAnthropic, client: Client) -> None:
    with pytest.raises(BadRequestError) as caught:
        await sdk.messages.create(model="tiny", max_tokens=9, messages=[{"role": "user", "content": "raise"}])
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
    reply = await client.post(PATH, {**BODY, "max_tokens": None}, {"X-Request-ID": "me"})
    assert reply.status == 400
    assert reply.headers["request-id"] == "me"
    assert reply.json == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "max_tokens: Expected `int`, got `null`"},
        "request_id": "me",
    }


@pytest.mark.parametrize("path", [PATH, "/v1/messages/count_tokens"])
async def test_no_json(client: Client, path: str) -> None:
    reply = await client.post(path, b"{")
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ApiError(404, "who?"), 404, "not_found_error"),
        (ApiError(503, "later"), 503, "overloaded_error"),
        (ApiError(501, "never"), 501, "api_error"),
        (RuntimeError("a secret"), 500, "api_error"),
    ],
)
async def test_engine_errors(client: Client, engine: FakeEngine, error: Exception, status: int, kind: str) -> None:
    engine.refuse = error
    reply = await client.post(PATH, BODY)
    assert (reply.status, reply.json["error"]["type"]) == (status, kind)
    assert "secret" not in reply.json["error"]["message"]


async def test_agents_know_a_prompt_that_is_too_long(client: Client, engine: FakeEngine) -> None:
    engine.refuse = ContextExceeded(n_prompt_tokens=200, n_ctx=128)
    reply = await client.post(PATH, BODY)
    assert reply.status == 400
    assert reply.json["error"]["message"] == "prompt is too long: 200 tokens > 128 maximum"
