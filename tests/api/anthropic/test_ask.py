"""Requests of the Messages API to what is asked of the model."""

from typing import Any

import msgspec
import pytest

from api.anthropic.ask import messages_ask
from api.anthropic.shapes import CountFields, MessagesFields
from api.ask import Asked
from api.decode import parse
from api.errors import ApiError
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.settings import GenerationDefaults

USER = {"role": "user", "content": "hi"}
ADD = {"name": "add", "input_schema": {"type": "object"}}
NOW = {"name": "now", "input_schema": {}, "type": "custom"}
SCHEMA = {"type": "object", "required": ["x"]}
FORMAT = {"type": "json_schema", "schema": SCHEMA}


def asked(body: dict[str, Any]) -> Asked:
    given = {"model": "tiny", "max_tokens": 9, "messages": [USER], **body}
    return messages_ask(parse(msgspec.json.encode(given), MessagesFields), GenerationDefaults())


def ask(**body: Any) -> ChatAsk:
    return asked(body).ask


def messages(*given: dict[str, Any], **body: Any) -> list[Any]:
    return list(ask(messages=list(given), **body).messages)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


def use(call_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call_id}", "name": "add", "input": {"a": "é"}}


def result(call_id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_{call_id}", "content": content, **more}


def test_system() -> None:
    assert messages(USER, system="a") == [{"role": "system", "content": "a"}, USER]
    assert messages(USER, system=[text("a"), text("b")]) == [{"role": "system", "content": "a\nb"}, USER]
    assert messages(USER, system="") == messages(USER, system=[]) == messages(USER) == [USER]
    assert messages(USER, {"role": "system", "content": [text("a")]})[1] == {"role": "system", "content": "a"}


def test_what_would_keep_the_prompt_out_of_the_cache_goes() -> None:
    bill = "x-anthropic-billing-header: cc_version=1; cch=74943;"
    assert messages(USER, system=[text(bill), text("a")])[0]["content"] == "a"
    assert messages(USER, system=f"{bill}\na\nx-anthropic-billing-header: b")[0]["content"] == (
        "a\nx-anthropic-billing-header: b"
    )


def test_what_the_assistant_does_at_once_is_one_message() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "abc"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    turn = {"role": "assistant", "content": [thinking, hidden, text("ok"), use("c1"), use("c2")]}
    results = {"role": "user", "content": [text("and?"), result("c1", "1"), result("c2", [text("2"), text("3")])]}
    found = messages(USER, turn, results)
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a":"é"}'}}
    assert found[1] == {
        "role": "assistant",
        "content": "ok",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}],
    }
    assert found[2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2\n3"},
        {"role": "user", "content": "and?"},
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (result("c", None), ""),
        (result("c", "no such file", is_error=True), "Error: no such file"),
        (result("c", "<tool_use_error>what</tool_use_error>", is_error=True), "<tool_use_error>what</tool_use_error>"),
        (result("c", "an error?", is_error=False), "an error?"),
    ],
)
def test_results(given: dict[str, Any], told: str) -> None:
    turn = {"role": "assistant", "content": [use("c")]}
    assert messages(USER, turn, {"role": "user", "content": [given]})[2:] == [
        {"role": "tool", "tool_call_id": "c", "content": told}
    ]


def test_the_last_words_of_the_assistant_are_continued() -> None:
    for content in ("He", [text("He")], [{"type": "thinking", "thinking": "h", "signature": ""}], []):
        going_on = ask(messages=[USER, {"role": "assistant", "content": content}])
        assert (going_on.continue_final_message, going_on.add_generation_prompt) == (True, False)
    for last in (USER, {"role": "assistant", "content": [text("He"), use("c")]}):
        new = ask(messages=[USER, last])
        assert (new.continue_final_message, new.add_generation_prompt) == (False, True)


def test_tools_and_choices() -> None:
    assert ask(tools=[ADD]).choice is ToolChoice.AUTO
    assert ask(tools=[ADD], tool_choice={"type": "none"}).choice is ToolChoice.NONE
    some = ask(tools=[ADD], tool_choice={"type": "any"})
    assert (some.choice, some.named, some.parallel) == (ToolChoice.REQUIRED, None, True)
    named = ask(tools=[ADD, NOW], tool_choice={"type": "tool", "name": "now", "disable_parallel_tool_use": True})
    assert (named.choice, named.named, named.parallel) == (ToolChoice.REQUIRED, "now", False)
    [tool] = ask(tools=[{**ADD, "description": "adds", "strict": True}]).tools
    assert (tool.parameters, tool.description, tool.strict) == ({"type": "object"}, "adds", True)


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, (None, None)),
        ({"type": "enabled", "budget_tokens": 2048}, (True, 2048)),
        ({"type": "adaptive"}, (True, None)),
        ({"type": "disabled"}, (False, None)),
    ],
)
def test_thinking(thinking: Any, expected: tuple[bool | None, int | None]) -> None:
    found = ask(thinking=thinking, output_config={"effort": "high"})
    assert (found.enable_thinking, found.reasoning_budget) == expected
    assert found.reasoning_effort == "high"


def test_hidden_thinking() -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    body = {"max_tokens": 9, "messages": [USER], "thinking": thinking}
    assert parse(msgspec.json.encode(body), MessagesFields).hides_thinking
    assert not parse(msgspec.json.encode({**body, "thinking": None}), MessagesFields).hides_thinking


def test_formats() -> None:
    assert ask(output_config={"format": FORMAT}).schema == SCHEMA
    assert ask(output_format=FORMAT).schema == SCHEMA
    assert ask(output_config={"format": FORMAT}).strict, "Anthropic knows no other way"
    assert asked({"output_format": FORMAT}).param == "output_format"
    assert asked({"output_format": FORMAT, "tools": [ADD]}).param is None


def test_counting_needs_no_limit() -> None:
    fields = parse(msgspec.json.encode({"messages": [USER]}), CountFields)
    assert messages_ask(fields, GenerationDefaults()).ask.messages == [USER]


def nested(block: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "user", "content": [text("a"), block]}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        (nested("hi"), "messages[1].content[1]"),
        (nested({"type": "magic"}), "messages[1].content[1].type"),
        (nested({"type": "text"}), "messages[1].content[1]"),
        (nested({"type": "text", "text": 3}), "messages[1].content[1].text"),
        (nested({"type": "image", "source": {}}), "messages[1].content[1]"),
        (nested({"type": "document", "source": {}}), "messages[1].content[1]"),
        (nested({"type": "tool_result"}), "messages[1].content[1]"),
        (nested(use("c")), "messages[1].content[1].type"),
        (nested(result("c", [{"type": "image"}])), "messages[1].content[1].content[0]"),
        (
            {"messages": [USER, {"role": "assistant", "content": [{**use("c"), "input": "{}"}]}]},
            "messages[1].content[0].input",
        ),
        ({"messages": [USER, {"role": "assistant", "content": [result("c", "")]}]}, "messages[1].content[0].type"),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "add"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{**ADD, "input_schema": []}]}, "tools[0].input_schema"),
        ({"tools": [{**ADD, "input_schema": {"type": "string"}}]}, "tools[0].input_schema.type"),
        ({"tools": [ADD, ADD]}, "tools[1].name"),
        ({"tools": [ADD], "tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
        ({"tools": [ADD], "tool_choice": "auto"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": -5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "sideways"}}, "thinking.type"),
        ({"output_config": {"effort": "endless"}}, "output_config.effort"),
        ({"output_format": {"type": "xml", "schema": {}}}, "output_format.type"),
        ({"output_format": FORMAT, "output_config": {"format": FORMAT}}, "output_format"),
        ({"output_format": FORMAT, "grammar": "x"}, "output_format"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs.enable_thinking"),
    ],
)
def test_bad_input(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked(body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message
