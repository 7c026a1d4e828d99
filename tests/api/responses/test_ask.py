"""Requests of the Responses API to what is asked of the model."""

from typing import Any

import msgspec
import pytest

from api.ask import Asked
from api.decode import parse
from api.errors import ApiError
from api.responses.ask import responses_ask
from api.responses.sealed import seal, unseal
from api.responses.shapes import ResponsesFields
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.settings import GenerationDefaults

USER = {"role": "user", "content": "hi"}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}
NOW = {"type": "function", "name": "now"}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'}


def asked(body: dict[str, Any], **defaults: Any) -> Asked:
    fields = parse(msgspec.json.encode({"input": "hi", **body}), ResponsesFields)
    return responses_ask(fields, GenerationDefaults(**defaults))


def ask(**body: Any) -> ChatAsk:
    return asked(body).ask


def messages(*items: dict[str, Any]) -> list[Any]:
    return list(ask(input=list(items)).messages)


def test_texts() -> None:
    assert messages({"type": "message", **USER}) == [USER]
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages({"role": "developer", "content": parts}) == [{"role": "developer", "content": "a\nb"}]
    said = [{"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"}]
    assert messages({"type": "message", "role": "assistant", "content": said}, USER)[0]["content"] == "a\nno"


def test_what_the_assistant_does_at_once_is_one_message() -> None:
    reasoning = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}
    outputs = [
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
    ]
    found = messages(
        USER, reasoning, said, CALL, {**CALL, "call_id": "c2", "name": "now"}, *outputs, reasoning, said, USER
    )
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    first = found[1]
    assert (first["content"], first["reasoning_content"]) == ("ok", "hm")
    assert [call["id"] for call in first["tool_calls"]] == ["c1", "c2"]
    assert first["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    assert found[2:4] == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
    ]
    assert "tool_calls" not in found[4]


@pytest.mark.parametrize(
    ("reasoning", "text"),
    [
        ({"content": [{"type": "reasoning_text", "text": "all"}], "encrypted_content": seal("sealed")}, "all"),
        ({"summary": [{"type": "summary_text", "text": "short"}], "encrypted_content": seal("sealéd")}, "sealéd"),
        ({"summary": [{"type": "summary_text", "text": "short"}], "encrypted_content": "of another"}, "short"),
        ({"summary": [{"type": "summary_text", "text": "short"}]}, "short"),
    ],
)
def test_reasoning(reasoning: dict[str, Any], text: str) -> None:
    found = messages(USER, {"type": "reasoning", **reasoning}, CALL)
    assert found[1]["reasoning_content"] == text


def test_unreadable_reasoning_is_none() -> None:
    found = messages(USER, {"type": "reasoning", "summary": [], "encrypted_content": "x"}, USER)
    assert found == [USER, USER]


@pytest.mark.parametrize("sealed", ["", "llama-box:!", "llama-box:/w==", "other:aGk="])
def test_what_others_sealed(sealed: str) -> None:
    assert unseal(sealed) is None


def test_the_last_words_of_the_assistant_are_continued() -> None:
    going_on = ask(input=[USER, {"role": "assistant", "content": "He"}])
    assert (going_on.continue_final_message, going_on.add_generation_prompt) == (True, False)
    for items in ([USER], [USER, CALL]):
        new = ask(input=items)
        assert (new.continue_final_message, new.add_generation_prompt) == (False, True)


def test_tools_and_choices() -> None:
    assert ask(tools=[ADD]).choice is ToolChoice.AUTO
    assert ask(tools=[ADD], tool_choice="none").choice is ToolChoice.NONE
    assert ask(tools=[ADD], tool_choice="required").choice is ToolChoice.REQUIRED
    named = ask(tools=[ADD, NOW], tool_choice={"type": "function", "name": "now"}, parallel_tool_calls=False)
    assert (named.choice, named.named, named.parallel) == (ToolChoice.REQUIRED, "now", False)
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "now"}]}
    some = ask(tools=[ADD, NOW], tool_choice=allowed)
    assert ([tool.name for tool in some.tools], some.choice) == (["now"], ToolChoice.REQUIRED)
    [tool] = ask(tools=[{**ADD, "description": "adds", "strict": True}]).tools
    assert (tool.parameters, tool.description, tool.strict) == ({"type": "object"}, "adds", True)
    [tool] = ask(tools=[{**NOW, "parameters": None, "strict": None}]).tools
    assert (tool.parameters, tool.strict) == ({}, False)


def test_what_openai_runs_the_model_does_not_see() -> None:
    """As Codex asks: OpenAI's web search is among its tools, whoever answers."""
    hosted = [{"type": "web_search", "external_web_access": False}, {"type": "image_generation"}]
    assert [tool.name for tool in ask(tools=[hosted[0], ADD, hosted[1]]).tools] == ["add"]


def test_functions_in_namespaces() -> None:
    spaces = [{"type": "namespace", "name": name, "tools": [NOW, ADD]} for name in ("mcp__clock__", "sums")]
    asked = ask(tools=[*spaces, ADD], input=[USER, {**CALL, "namespace": "sums"}])
    names = ["mcp__clock__now", "mcp__clock__add", "sums__now", "sums__add", "add"]
    assert [tool.name for tool in asked.tools] == names
    assert asked.tools[3].parameters == {"type": "object"}
    assert asked.messages[1]["tool_calls"][0]["function"]["name"] == "sums__add"


def test_reasoning_effort() -> None:
    off = ask(reasoning={"effort": "none"})
    assert (off.enable_thinking, off.reasoning_effort) == (False, None)
    high = ask(reasoning={"effort": "high", "summary": "auto"}, chat_template_kwargs={"enable_thinking": True, "x": 1})
    assert (high.enable_thinking, high.reasoning_effort, high.variables) == (True, "high", {"x": 1})
    assert ask().enable_thinking is None


def test_formats() -> None:
    schema = {"type": "object", "required": ["x"]}
    assert ask(text={"format": {"type": "json_schema", "name": "n", "schema": schema}}).schema == schema
    for given, strict in ((True, True), (False, False), (None, False)):
        wanted = ask(text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": given}})
        assert (wanted.schema, wanted.strict) == (schema, strict)
    assert ask(text={"format": {"type": "json_object"}}).schema == {"type": "object"}
    assert ask(text={"format": {"type": "text"}, "verbosity": "low"}).schema is None
    assert ask(json_schema=schema).schema == schema
    assert ask(grammar="root ::= 'a'").grammar == "root ::= 'a'"


def test_the_servers_own_constraint() -> None:
    default = {"grammar": "root ::= 'a'"}
    assert asked({}, **default).ask.grammar == "root ::= 'a'"
    assert asked({"tools": [ADD]}, **default).ask.grammar is None
    assert asked({"text": {"format": {"type": "json_object"}}}, **default).ask.grammar is None


def test_who_is_to_blame() -> None:
    json_object = {"format": {"type": "json_object"}}
    assert asked({}).param is None
    assert asked({"text": json_object}).param == "text.format"
    assert asked({"tools": [ADD]}).param == "tools"
    assert asked({"tools": [ADD], "text": json_object}).param is None


def test_limits() -> None:
    assert ResponsesFields(input="hi", max_output_tokens=3, max_tokens=5).token_limit == 3
    assert ResponsesFields(input="hi", max_tokens=5).token_limit == 5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "hi"}]}, "input[0].role"),
        ({"input": [USER, {"role": "user"}]}, "input[1]"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"type": "magic"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0]"),
        ({"input": [USER, {**CALL, "arguments": {}}]}, "input[1].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0]"),
        ({"instructions": 3}, "instructions"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"truncation": "sideways"}, "truncation"),
        ({"include": ["everything"]}, "include[0]"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"reasoning": {"effort": "endless"}}, "reasoning.effort"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [ADD, {"name": "no type"}]}, "tools[1].type"),
        ({"tools": [ADD, {"type": 5}]}, "tools[1].type"),
        ({"tools": [{"type": "web_search"}, {"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "tools[0]"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]}, "tools[0].tools[0].type"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{**ADD, "name": "?"}]}]}, "tools[0].tools[0].name"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**ADD, "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [{**ADD, "parameters": {"type": "array"}}]}, "tools[0].parameters.type"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{**ADD, "parameters": {"type": "array"}}]}]},
            "tools[0].tools[0].parameters.type",
        ),
        ({"tools": [ADD, ADD]}, "tools[1].name"),
        ({"tools": [ADD], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "sub"}]}},
            "tool_choice.tools[0].name",
        ),
        (
            {"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}},
            "tool_choice",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
        ({"text": {"format": {"type": "json_object"}}, "grammar": "x"}, "text.format"),
        ({"text": {"format": {"type": "json_object"}}, "json_schema": {}}, "text.format"),
        ({"grammar": "x", "json_schema": {}}, "json_schema"),
        ({"grammar": "x", "tools": [ADD]}, "grammar"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs.enable_thinking"),
    ],
)
def test_bad_input(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked(body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message
