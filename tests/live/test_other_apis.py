"""The Responses API and the Messages API on the real model, through their vendors' own SDKs."""

import json
import re

import anthropic
import openai

QUESTION = "What is the weather like in Paris right now?"
CHOICE = {"type": "any", "disable_parallel_tool_use": True}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_responses(real_server: str) -> None:
    tool = {"type": "function", "name": "get_weather", "description": "Current weather.", "parameters": PARAMETERS}
    with openai.OpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
        plain = client.responses.create(
            model="qwen", input="What is the capital of France? One word.", temperature=0, max_output_tokens=16
        )
        assert plain.status == "completed"
        assert "Paris" in plain.output_text
        asked = {"model": "qwen", "input": QUESTION, "tools": [tool], "tool_choice": "required", "temperature": 0}
        asked |= {"parallel_tool_calls": False}
        with client.responses.create(stream=True, max_output_tokens=64, **asked) as stream:
            events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    (call,) = events[-1].response.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    assert "Paris" in json.loads(call.arguments)["city"]


def test_custom_tools(real_server: str) -> None:
    tool = {"type": "custom", "name": "run_sql", "description": "Runs SQL against the shop's database."}
    form = {"syntax": "regex", "definition": r'SELECT "[a-z]+" FROM "[a-z]+"\n;'}
    asked = {"model": "qwen", "temperature": 0, "tool_choice": "required", "parallel_tool_calls": False}
    question = [{"role": "user", "content": "What are the names of all customers?"}]
    with openai.OpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
        tools = [{**tool, "format": {"type": "grammar", **form}}]
        with client.responses.create(input=question, tools=tools, stream=True, **asked) as stream:
            events = list(stream)
        (call,) = events[-1].response.output
        result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Ada, Grace"}
        counted = client.responses.input_tokens.count(model="qwen", input=[*question, call, result], tools=tools)
        asked["tools"] = [{"type": "custom", "custom": {**tool, "format": {"type": "grammar", "grammar": form}}}]
        (chat_call,) = client.chat.completions.create(messages=question, **asked).choices[0].message.tool_calls
        history = [*question, {"role": "assistant", "tool_calls": [chat_call.model_dump()]}]
        history += [{"role": "tool", "tool_call_id": chat_call.id, "content": "Ada, Grace"}]
        going_on = client.chat.completions.create(messages=history, max_tokens=1, **asked | {"tool_choice": "none"})
    assert (call.type, call.name) == ("custom_tool_call", "run_sql")
    assert re.fullmatch(form["definition"], call.input)
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == call.input
    assert len(deltas) > 1
    assert chat_call.custom.input == call.input
    assert going_on.usage.prompt_tokens == counted.input_tokens


def test_responses_go_on_by_id(real_server: str) -> None:
    tool = {"type": "function", "name": "get_weather", "description": "Current weather.", "parameters": PARAMETERS}
    asked = {"model": "qwen", "temperature": 0, "max_output_tokens": 64}
    with openai.OpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
        first = client.responses.create(input="My name is Ada. Say hello.", **asked)
        with client.responses.create(
            input="What is my name? One word.", previous_response_id=first.id, stream=True, **asked
        ) as stream:
            *_, last = stream
        second = last.response
        assert client.responses.retrieve(second.id) == second
        client.responses.delete(first.id)
        listed = [item.role for item in client.responses.input_items.list(second.id, order="asc", limit=1)]
        forced = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
        calling = client.responses.create(input=QUESTION, **forced, **asked)
        (call,) = calling.output
        result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 31, "sky": "clear"}'}
        told = client.responses.create(input=[result], previous_response_id=calling.id, tools=[tool], **asked)
    assert "Ada" in second.output_text
    assert listed == ["user", "assistant", "user"]
    cached = second.usage.input_tokens_details.cached_tokens
    assert cached >= first.usage.input_tokens + first.usage.output_tokens - 2
    assert "31" in told.output_text
    assert told.usage.input_tokens_details.cached_tokens >= calling.usage.input_tokens


def test_messages(real_server: str) -> None:
    tool = {"name": "get_weather", "description": "Current weather.", "input_schema": PARAMETERS}
    asked = {"model": "qwen", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
    greedy = {"extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=real_server, api_key="none", max_retries=0) as client:
        plain = client.messages.create(
            model="qwen",
            max_tokens=16,
            messages=[{"role": "user", "content": "What is the capital of France? One word."}],
            **greedy,
        )
        assert plain.stop_reason == "end_turn"
        assert "Paris" in plain.content[0].text
        with client.messages.stream(tools=[tool], tool_choice=CHOICE, **asked, **greedy) as stream:
            message = stream.get_final_message()
        count = client.messages.count_tokens(model="qwen", messages=asked["messages"], tools=[tool])
    assert message.stop_reason == "tool_use"
    (block,) = message.content
    assert (block.type, block.name) == ("tool_use", "get_weather")
    assert "Paris" in block.input["city"]
    usage = message.usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
