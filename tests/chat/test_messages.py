from typing import Any

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
        (message("assistant", None, tool_calls=[call("{")]), r"arguments is not JSON"),
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
    ],
)
def test_content_becomes_text(content: Any, text: str) -> None:
    assert validate([message("user", content)]) == [message("user", text)]


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_become_objects(arguments: Any) -> None:
    original = message("assistant", None, tool_calls=[call(arguments)])
    assert validate([original])[0]["tool_calls"] == [call({"a": 1})]
    assert original["tool_calls"] == [call(arguments)]


@pytest.mark.parametrize("arguments", [None, ""])
def test_absent_arguments_become_an_empty_object(arguments: Any) -> None:
    assert validate([message("assistant", "", tool_calls=[call(arguments)])])[0]["tool_calls"] == [call({})]


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
    ],
)
def test_messages_suit_the_template(
    messages: list[dict[str, Any]], capabilities: Capabilities, suited: list[dict[str, Any]]
) -> None:
    before = [dict(item) for item in messages]
    assert suit(messages, capabilities) == suited
    assert messages == before
