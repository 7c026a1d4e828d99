import json
from typing import Any

import attrs
import pytest

from llamabox.chat.capabilities import Capabilities
from llamabox.chat.errors import TemplateError
from llamabox.chat.messages import suit, validate


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (message("boss", "x"), r"messages\[0\]\.role"),
        (message("user", 5), r"messages\[0\]\.content"),
        (message("user", ["x"]), r"messages\[0\]\.content\[0\]"),
        (message("user", [{"type": "image_url"}]), r"content\[0\].*image_url"),
        (message("user", [{"type": "text", "text": None}]), r"content\[0\]\.text"),
        (message("assistant", None, tool_calls="x"), "tool_calls"),
        (message("assistant", None, tool_calls=[{}]), r"tool_calls\[0\]\.function"),
        (message("assistant", None, tool_calls=[{"function": {}}]), r"tool_calls\[0\]\.function\.name"),
        (message("assistant", None, tool_calls=["x"]), r"tool_calls\[0\] must"),
        (message("assistant", None, tool_calls=[{**call(""), "id": 5}]), r"tool_calls\[0\]\.id"),
        (
            message("assistant", None, tool_calls=[call("{")]),
            r"^messages\[0\]\.tool_calls\[0\]\.function\.arguments is not",
        ),
        (
            message("assistant", None, tool_calls=[call({}), call('{"a": NaN}')]),
            r"tool_calls\[1\].*arguments is not JSON",
        ),
        (message("assistant", None, tool_calls=[call("[" * 100_000)]), r"arguments is nested too deeply"),
        (message("assistant", None, tool_calls=[call('{"a":' * 3000 + "1" + "}" * 3000)]), r"messages\[0\] is nested"),
        (message("user", "x", more=json.loads("[" * 3000 + "]" * 3000)), r"messages\[0\] is nested"),
        (message("assistant", None, tool_calls=[call("[1]")]), r"arguments must be a JSON object"),
        (message("assistant", None, tool_calls=[call(5)]), r"arguments must be a JSON object"),
        (
            message("assistant", None, function_call={"name": "f", "arguments": "{"}),
            r"^messages\[0\]\.function_call\.argu",
        ),
        (message("assistant", None, function_call="f"), r"function_call must be an object"),
        (message("assistant", "x", reasoning_content=["y"]), r"reasoning_content must be a string"),
        (message("assistant", [{"type": "refusal"}]), r"content\[0\]\.refusal"),
        (message("user", [{"type": ["text"]}]), r"content\[0\]"),
        (message("tool", "x", tool_call_id=1), r"messages\[0\]\.tool_call_id"),
        (message("user", "x", name=1), r"messages\[0\]\.name"),
        (message([], "x"), r"role"),
        ("x", r"messages\[0\]"),
        ({"content": "x"}, "role"),
    ],
)
def test_malformed_messages_are_named(bad: Any, where: str) -> None:
    with pytest.raises(TemplateError, match=where):
        validate([bad])


def test_no_messages() -> None:
    with pytest.raises(TemplateError, match="empty"):
        validate([])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
    ],
)
def test_content_becomes_text(content: Any, text: str) -> None:
    assert validate([message("user", content)]) == [message("user", text)]


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_become_objects(arguments: Any) -> None:
    original = message("assistant", None, tool_calls=[call(arguments)])
    assert validate([original])[0]["tool_calls"] == [call({"a": 1})]
    assert original["tool_calls"] == [call(arguments)]


@pytest.mark.parametrize("arguments", [None, "", " ", "null", "{}"])
def test_absent_arguments_become_an_empty_object(arguments: Any) -> None:
    assert validate([message("assistant", "", tool_calls=[call(arguments)])])[0]["tool_calls"] == [call({})]


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_has_one_name(key: str) -> None:
    assert validate([message("assistant", "A", **{key: "R"})]) == [message("assistant", "A", reasoning_content="R")]
    assert validate([message("assistant", "A", **{key: None})]) == [message("assistant", "A")]


def test_the_old_function_messages_become_calls_and_results() -> None:
    function = {"name": "f", "arguments": '{"a": 1}'}
    messages = [
        message("user", "U"),
        message("assistant", None, function_call=function),
        message("function", "R", name="f"),
        message("assistant", "A", function_call=None),
    ]
    assert validate(messages) == [
        message("user", "U"),
        message("assistant", "", tool_calls=[{**call({"a": 1}), "id": "call_1_0"}]),
        message("tool", "R", name="f", tool_call_id="call_1_0"),
        message("assistant", "A"),
    ]


def named(call_id: str | None, name: str) -> dict[str, Any]:
    identity = {} if call_id is None else {"id": call_id}
    return {**identity, "type": "function", "function": {"name": name, "arguments": {}}}


@pytest.mark.parametrize(
    ("calls", "results", "answered"),
    [
        ([named("x", "f")], [{"tool_call_id": "x"}], [("x", "f")]),
        ([named("x", "f")], [{"tool_call_id": "x", "name": "own"}], [("x", "own")]),
        ([named("x", "f"), named("y", "g")], [{}, {}], [("x", "f"), ("y", "g")]),
        ([named("x", "f"), named("y", "g")], [{"name": "g"}, {}], [("y", "g"), ("x", "f")]),
        ([named("x", "f"), named("y", "f")], [{"name": "f"}, {"name": "f"}], [("x", "f"), ("y", "f")]),
        ([named(None, "f"), named(None, "g")], [{"name": "g"}], [("call_0_1", "g")]),
        ([named("x", "f")], [{"tool_call_id": "z"}], [("z", None)]),
        ([named("x", "f")], [{"name": "z"}], [(None, "z")]),
        ([named("x", "f")], [{"tool_call_id": None, "name": None}, {}], [("x", "f"), (None, None)]),
    ],
)
def test_results_find_their_calls(calls: list[Any], results: list[Any], answered: list[Any]) -> None:
    messages = [message("assistant", None, tool_calls=calls), *(message("tool", "R", **more) for more in results)]
    linked = validate(messages)[1:]
    assert [(result.get("tool_call_id"), result.get("name")) for result in linked] == answered


def test_a_result_without_any_call_is_left_alone() -> None:
    assert validate([message("tool", "R")]) == [message("tool", "R")]


SYSTEM, DEVELOPER = message("system", "S"), message("developer", "D")
USER, SECOND, ASSISTANT = message("user", "U"), message("user", "V"), message("assistant", "A")


@pytest.mark.parametrize(
    ("messages", "capabilities", "suited"),
    [
        ([SYSTEM, USER], Capabilities(), [SYSTEM, USER]),
        ([DEVELOPER, USER], Capabilities(), [message("system", "D"), USER]),
        ([DEVELOPER, USER], Capabilities(developer_role=True), [DEVELOPER, USER]),
        ([SYSTEM, DEVELOPER, USER], Capabilities(system_role=False), [message("user", "S\n\nD\n\nU")]),
        ([SYSTEM], Capabilities(system_role=False), [message("user", "S")]),
        ([USER, SYSTEM, SECOND], Capabilities(system_role=False), [USER, message("user", "S\n\nV")]),
        ([USER, SECOND, ASSISTANT], Capabilities(alternation=True), [message("user", "U\n\nV"), ASSISTANT]),
        (
            [USER, SYSTEM, SECOND],
            Capabilities(alternation=True, system_role=False),
            [message("user", "U\n\nS\n\nV")],
        ),
        (
            [USER, ASSISTANT, ASSISTANT],
            Capabilities(alternation=True),
            [USER, message("assistant", "A\n\nA")],
        ),
        (
            [USER, message("assistant", "", tool_calls=[call({})]), ASSISTANT],
            Capabilities(alternation=True),
            [USER, message("assistant", "", tool_calls=[call({})]), ASSISTANT],
        ),
        (
            [USER],
            Capabilities(string_content=False, list_content=True),
            [message("user", [{"type": "text", "text": "U"}])],
        ),
        ([USER], Capabilities(list_content=True), [USER]),
        (
            [SYSTEM, DEVELOPER, USER, SYSTEM, SECOND],
            Capabilities(late_system=False),
            [message("system", "S\n\nD"), USER, message("user", "S\n\nV")],
        ),
        (
            [DEVELOPER, SYSTEM, USER],
            Capabilities(late_system=False, developer_role=True),
            [message("developer", "D\n\nS"), USER],
        ),
        ([SYSTEM, USER, SYSTEM, SECOND], Capabilities(), [SYSTEM, USER, SYSTEM, SECOND]),
        ([USER, SYSTEM], Capabilities(late_system=False), [USER, message("user", "S")]),
    ],
)
def test_messages_suit_the_template(
    messages: list[dict[str, Any]], capabilities: Capabilities, suited: list[dict[str, Any]]
) -> None:
    before = [dict(item) for item in messages]
    assert suit(messages, capabilities) == suited
    assert messages == before


THOUGHT = message("assistant", "A", reasoning_content="R")
CALLED = message("assistant", "", tool_calls=[call({"a": "é"})])


@pytest.mark.parametrize(
    ("capabilities", "suited"),
    [
        (Capabilities(), THOUGHT),
        (Capabilities(reasoning_field="thinking"), message("assistant", "A", thinking="R")),
        (Capabilities(reasoning_field=None), message("assistant", "A")),
        (
            Capabilities(reasoning_field=None, thinking_parts=True),
            message("assistant", [{"type": "thinking", "thinking": "R"}, {"type": "text", "text": "A"}]),
        ),
        (
            Capabilities(reasoning_field=None, thinking_parts=True, string_content=False, list_content=True),
            message("assistant", [{"type": "thinking", "thinking": "R"}, {"type": "text", "text": "A"}]),
        ),
        (Capabilities(reasoning_beside_text_and_calls=False), THOUGHT),
    ],
)
def test_reasoning_goes_where_the_template_looks(capabilities: Capabilities, suited: dict[str, Any]) -> None:
    assert suit([THOUGHT], capabilities) == [suited]


def test_text_joins_the_reasoning_where_calls_leave_no_place_for_it() -> None:
    turn = {**CALLED, "content": "A", "reasoning_content": "R"}
    capabilities = Capabilities(reasoning_field="thinking", reasoning_beside_text_and_calls=False)
    assert suit([turn], capabilities) == [{**CALLED, "thinking": "R\n\nA"}]


@pytest.mark.parametrize(
    ("capabilities", "arguments"),
    [
        (Capabilities(), {"a": "é"}),
        (Capabilities(string_arguments=True), {"a": "é"}),
        (Capabilities(string_arguments=True, object_arguments=False), '{"a": "é"}'),
        (Capabilities(object_arguments=False), {"a": "é"}),
    ],
)
def test_arguments_as_the_template_takes_them(capabilities: Capabilities, arguments: Any) -> None:
    assert suit([CALLED], capabilities) == [message("assistant", "", tool_calls=[call(arguments)])]
    assert CALLED["tool_calls"] == [call({"a": "é"})]


def result(call_id: str, content: str, **more: Any) -> dict[str, Any]:
    return message("tool", content, tool_call_id=call_id, **more)


def test_one_call_in_a_message() -> None:
    x, y = named("x", "f"), named("y", "g")
    both = message("assistant", "A", tool_calls=[x, y], reasoning_content="R")
    answers = [result("y", "2"), result("z", "3"), result("x", "1")]
    assert suit([USER, both, *answers, SECOND], Capabilities(parallel_calls=False)) == [
        USER,
        message("assistant", "A", tool_calls=[x], reasoning_content="R"),
        result("x", "1"),
        message("assistant", "", tool_calls=[y]),
        result("y", "2"),
        result("z", "3"),
        SECOND,
    ]


def test_calls_and_results_as_text() -> None:
    talk = [USER, {**CALLED, "content": "A"}, result("1", "R", name="f"), result("2", "é")]
    capabilities = Capabilities(calls_shown=False, results_shown=False)
    assert suit(talk, capabilities) == [
        USER,
        message("assistant", 'A\n\n{"tool_calls": [{"name": "f", "arguments": {"a": "é"}}]}'),
        message("user", '{"tool_response": {"name": "f", "content": "R"}}'),
        message("user", '{"tool_response": {"content": "é"}}'),
    ]
    assert [item["role"] for item in suit(talk, attrs.evolve(capabilities, alternation=True))] == [
        "user",
        "assistant",
        "user",
    ]


def test_ids_of_nine_characters() -> None:
    talk = [
        message("assistant", "", tool_calls=[named("call_abc", "f"), named("abcdefgh9", "g"), named("000000001", "h")]),
        result("abcdefgh9", "2"),
        result("call_abc", "1"),
        result("stray", "3"),
    ]
    suited = suit(talk, Capabilities(id_length=9))
    assert [item["id"] for item in suited[0]["tool_calls"]] == ["000000002", "abcdefgh9", "000000001"]
    assert [item["tool_call_id"] for item in suited[1:]] == ["abcdefgh9", "000000002", "000000003"]
