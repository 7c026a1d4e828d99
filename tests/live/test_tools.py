"""Tools and structured output on the real model through the OpenAI SDK: what agents do all day."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SQUARE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "square",
        "description": "Square a number.",
        "parameters": {"type": "object", "properties": {"number": {"type": "number"}}, "required": ["number"]},
    },
}
ASK = [{"role": "user", "content": "What is the weather like in Paris right now?"}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
GREEDY = {"temperature": 0, "max_tokens": 128}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "state": {"enum": ["single", "married"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
    },
    "required": ["name", "age", "state", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(real_server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
        yield client


def collect(chunks: Any) -> tuple[str, dict[int, dict[str, str]], str]:
    """(content, calls by index, finish reason) of a stream, checked for the rules of streaming."""
    content, calls, reason = "", {}, ""
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                if call.index not in calls:
                    assert call.id
                    assert call.function.name
                    calls[call.index] = {"id": call.id, "name": call.function.name, "arguments": ""}
                else:
                    assert call.function.name is None
                calls[call.index]["arguments"] += call.function.arguments or ""
    return content, calls, reason


@pytest.mark.parametrize("choice", ["auto", "required", NAMED], ids=["auto", "required", "named"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_is_called(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    asked = {"model": "qwen", "messages": ASK, "tools": [WEATHER], "tool_choice": choice, **GREEDY}
    if stream:
        with client.chat.completions.create(stream=True, **asked) as chunks:
            _, calls, reason = collect(chunks)
        (call,) = calls.values()
    else:
        answer = client.chat.completions.create(**asked).choices[0]
        reason = answer.finish_reason
        (found,) = answer.message.tool_calls
        call = {"id": found.id, "name": found.function.name, "arguments": found.function.arguments}
    assert reason == "tool_calls"
    assert call["name"] == "get_weather"
    assert "Paris" in json.loads(call["arguments"])["city"]


def test_a_result_is_answered(client: openai.OpenAI) -> None:
    asked = {"model": "qwen", "tools": [WEATHER], **GREEDY}
    message = client.chat.completions.create(messages=ASK, **asked).choices[0].message
    (call,) = message.tool_calls
    turns = [
        *ASK,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "17 degrees Celsius and cloudy"},
        # A model of this size would rather call the tool again than answer, unless it is told to.
        {"role": "user", "content": "Now tell me in one plain sentence."},
    ]  # fmt: skip
    reply = client.chat.completions.create(messages=turns, **asked).choices[0]
    assert reply.finish_reason == "stop"
    assert "17" in reply.message.content


def test_parallel_calls_with_required(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris and in Rome? Call the tool for both cities."}]
    reply = client.chat.completions.create(
        model="qwen", messages=question, tools=[WEATHER], tool_choice="required", parallel_tool_calls=True, **GREEDY
    )
    calls = reply.choices[0].message.tool_calls
    cities = {json.loads(call.function.arguments)["city"].split(",")[0] for call in calls}
    assert cities >= {"Paris", "Rome"}
    assert len({call.id for call in calls}) == len(calls)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_one_call_without_parallel(client: openai.OpenAI, choice: str) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris and in Rome? Call the tool for both cities."}]
    reply = client.chat.completions.create(
        model="qwen", messages=question, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, **GREEDY
    )
    assert len(reply.choices[0].message.tool_calls) == 1


def test_none_never_calls(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="qwen", messages=ASK, tools=[WEATHER], tool_choice="none", **GREEDY)
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].finish_reason != "tool_calls"


def test_auto_answers_where_no_tool_helps(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "Say hello."}]
    reply = client.chat.completions.create(model="qwen", messages=question, tools=[SQUARE], **GREEDY)
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"


# The tiny model's weights are random: it never wants what the schema does. A text of the real one takes a second.
@pytest.mark.parametrize(("server", "requests", "n"), [("tiny_server", 4, 25), ("real_server", 1, 8)])
def test_json_by_schema_always_validates(request: pytest.FixtureRequest, server: str, requests: int, n: int) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    question = [{"role": "user", "content": "Invent a person."}]
    url = request.getfixturevalue(server)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for seed in range(requests):
            reply = client.chat.completions.create(
                model="any",
                messages=question,
                response_format=schema,
                temperature=1,
                seed=seed * n,
                n=n,
                max_tokens=400,
            )
            for choice in reply.choices:
                assert choice.finish_reason == "stop"
                jsonschema.validate(json.loads(choice.message.content), PERSON)


def test_json_object(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "Describe Paris with the keys name and country, as JSON."}]
    reply = client.chat.completions.create(
        model="qwen", messages=question, response_format={"type": "json_object"}, **GREEDY
    )
    assert isinstance(json.loads(reply.choices[0].message.content), dict)


def test_schema_and_tools_together(client: openai.OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    question = [{"role": "user", "content": "Invent a person, no tool is needed."}]
    reply = client.chat.completions.create(
        model="qwen", messages=question, tools=[WEATHER], response_format=schema, temperature=0, max_tokens=200
    )
    message = reply.choices[0].message
    if message.tool_calls:
        json.loads(message.tool_calls[0].function.arguments)
    else:
        jsonschema.validate(json.loads(message.content), PERSON)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}}, "response_format"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "tool_choice"),
        ({"extra_body": {"grammar": "root ::= ("}}, "grammar"),
    ],
    ids=["schema", "tool", "grammar"],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="qwen", messages=ASK, max_tokens=4, **fields)
    assert param in refusal.value.body["param"]
    assert client.chat.completions.create(model="qwen", messages=ASK, max_tokens=4).choices


def test_user_grammar(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="qwen", messages=ASK, max_tokens=16, extra_body={"grammar": 'root ::= "yes" | "no"'}
    )
    assert reply.choices[0].message.content in ("yes", "no")
