"""POST /v1/responses through the application and the vendor's client."""

from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError

from engine.text.events import FinishReason
from llamabox.chat.ask import ToolChoice
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, say
from tests.api.responses.play import CALLS, OUTPUTS

PATH = "/v1/responses"
ADD = {
    "type": "function",
    "name": "add",
    "description": "adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": True,
}


async def test_whole(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    response = await sdk.responses.create(
        model="tiny",
        input="hi",
        instructions="be brief",
        max_output_tokens=7,
        temperature=0.25,
        metadata={"k": "v"},
    )
    assert response.id.startswith("resp_")
    assert response.status == "completed"
    assert response.output_text == "Hello world"
    assert (response.model, response.instructions, response.metadata) == ("tiny", "be brief", {"k": "v"})
    assert (response.temperature, response.max_output_tokens, response.top_p) == (0.25, 7, 0.9)
    assert response.usage is not None
    assert response.usage.output_tokens == 11
    assert response.usage.total_tokens == response.usage.input_tokens + 11
    [request] = engine.opened
    assert (request.max_tokens, request.sampling.temperature) == (7, 0.25)
    [ask] = client.services.prompts.asks
    assert ask.messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


async def test_tools(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    engine.script = say("<think>\nhm</think>\n\n", CALLS)
    response = await sdk.responses.create(
        model="tiny",
        input="hi",
        tools=[ADD],
        tool_choice={"type": "function", "name": "add"},
        parallel_tool_calls=False,
    )
    reasoning, call = response.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "hm")
    assert (call.type, call.name, call.arguments) == ("function_call", "add", '{"a": 1, "b": "é"}')
    assert call.call_id == "call_0"
    assert (response.tools[0].name, response.tools[0].strict) == ("add", True)
    assert response.parallel_tool_calls is False
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    [ask] = client.services.prompts.asks
    assert (ask.choice, ask.named, ask.parallel) == (ToolChoice.REQUIRED, "add", False)


async def test_a_function_in_a_namespace_is_called_by_both_its_names(client: Client, engine: FakeEngine) -> None:
    engine.script = say(CALLS.replace("add", "sums__add"))
    space = {"type": "namespace", "name": "sums", "description": "Sums", "tools": [ADD, {**ADD, "name": "sub"}]}
    body = {"model": "tiny", "input": "hi", "tools": [space, ADD, {"type": "web_search"}]}
    reply = (await client.post("/v1/responses", body)).json
    [call] = reply["output"]
    assert (call["namespace"], call["name"]) == ("sums", "add")
    [first, second] = reply["tools"]
    assert (first["type"], first["name"]) == ("namespace", "sums")
    assert [tool["name"] for tool in first["tools"]] == ["add", "sub"]
    assert (second["type"], second["name"]) == ("function", "add")
    sent_back = [{"role": "user", "content": "hi"}, call]
    await client.post("/v1/responses", {**body, "input": sent_back})
    [again] = client.services.prompts.asks[1].messages[1]["tool_calls"]
    assert again["function"]["name"] == "sums__add"


async def test_a_reply_can_be_sent_back(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    engine.script = say("<think>\nhm</think>\n\nWell. ", CALLS)
    first = await sdk.responses.create(model="tiny", input="hi", tools=[ADD])
    result = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "3"}
    await sdk.responses.create(
        model="tiny", input=[{"role": "user", "content": "hi"}, *first.output, result], tools=[ADD]
    )
    call = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": "é"}'}}
    assert client.services.prompts.asks[1].messages == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Well.", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "3"},
    ]


async def test_stream(sdk: AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = say("<think>\nhm</think>\n\n", "Let me ", "see. ", *CALLS)
    async with sdk.responses.stream(model="tiny", input="hi", tools=[ADD]) as stream:
        events = [event async for event in stream]
        response = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert "".join(event.delta for event in events if event.type == "response.reasoning_text.delta") == "hm"
    assert response.output_text == "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert response.output[2].parsed_arguments == {"a": 1, "b": "é"}


async def test_incomplete(sdk: AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = say("Hel", reason=FinishReason.LIMIT)
    response = await sdk.responses.create(model="tiny", input="hi", max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"


async def test_logprobs(sdk: AsyncOpenAI, engine: FakeEngine) -> None:
    asked: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = await sdk.responses.create(model="tiny", input="hi", **asked)
    logprobs = response.output[0].content[0].logprobs
    assert "".join(entry.token for entry in logprobs) == "Hello world"
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs)
    stream = await sdk.responses.create(model="tiny", input="hi", stream=True, **asked)
    told = [
        entry.token async for event in stream if event.type == "response.output_text.delta" for entry in event.logprobs
    ]
    assert "".join(told) == "Hello world"


async def test_sealed_reasoning(client: Client, engine: FakeEngine) -> None:
    engine.script = say(OUTPUTS["reasoning"].text)
    body = {"input": "hi", "include": ["reasoning.encrypted_content"]}
    item, _ = (await client.post(PATH, body)).json["output"]
    del item["content"]  # as some clients do
    await client.post(PATH, {"input": [{"role": "user", "content": "hi"}, item, {"role": "user", "content": "so?"}]})
    assert client.services.prompts.asks[1].messages[1] == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "why not",
    }


async def test_a_schema_reaches_the_engine(client: Client, engine: FakeEngine) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    reply = await client.post(PATH, {"input": "hi", "text": text})
    assert reply.json["text"] == text
    assert client.services.prompts.asks[0].schema == schema
    assert engine.opened[0].grammar is not None
    wrong = {"format": {"type": "json_schema", "name": "n", "schema": {"title": "unsatisfiable"}}}
    reply = await client.post(PATH, {"input": "hi", "text": wrong})
    assert (reply.status, reply.error["param"]) == (400, "text.format")


async def test_errors_are_openais(sdk: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        await sdk.responses.create(model="tiny", input="hi", conversation="conv_1")
    assert caught.value.param == "conversation"
    assert "previous_response_id" in caught.value.message


async def test_template_error(client: Client) -> None:
    reply = await client.post(PATH, {"input": "raise"})
    assert reply.status == 400
    assert "the template says no" in reply.error["message"]


async def test_input_tokens(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    asked: dict[str, Any] = {"model": "tiny", "instructions": "be brief", "tools": [ADD]}
    first = await sdk.responses.create(input="hi", **asked)
    for given in ({"input": "hi"}, {"input": "so?", "previous_response_id": first.id}):
        count = await sdk.responses.input_tokens.count(**given, **asked)
        response = await sdk.responses.create(**given, **asked)
        assert count.object == "response.input_tokens"
        assert count.input_tokens == response.usage.input_tokens == len(engine.opened[-1].prompt)
        counted, answered = client.services.prompts.asks[-2:]
        assert counted == answered
    assert len(engine.opened) == 3
    kept = len(client.services.responses)
    reply = await client.post("/responses/input_tokens", {"input": "hi", "store": True})
    assert (reply.status, len(client.services.responses)) == (200, kept)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": "hi", "conversation": "conv_1"}, 400, "conversation"),
        ({"input": "hi", "previous_response_id": "resp_1"}, 400, "previous_response_id"),
        ({"input": "hi", "tools": [{"type": "web_search"}]}, 400, "tools[0].type"),
        ({"input": "hi", "temperature": "hot"}, 400, "temperature"),
        ({"input": "hi", "model": "painter"}, 404, "model"),
    ],
)
async def test_what_is_counted_is_what_could_be_answered(
    client: Client, body: dict[str, Any], status: int, param: str
) -> None:
    client.services.image_ids = ("painter",)
    counted, answered = [await client.post(path, body) for path in (f"{PATH}/input_tokens", PATH)]
    assert (counted.status, counted.json["error"]["param"]) == (status, param)
    assert counted.json == answered.json


async def test_nothing_is_compacted(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    with pytest.raises(APIStatusError, match="summary") as caught:
        await sdk.responses.compact(model="tiny", input="hi")
    assert (caught.value.status_code, caught.value.type) == (501, "not_supported_error")
    assert (await client.post("/responses/compact", {"input": "hi"})).status == 501
    assert engine.opened == []
    assert (await client.get(f"{PATH}/compact")).status == 404  # no response has this id
