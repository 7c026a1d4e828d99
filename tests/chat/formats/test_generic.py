"""Tools for templates that know none."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.formats.base import Marks, Tool
from llamabox.chat.formats.generic import GenericCalls, history, instructions
from llamabox.chat.grammar.lark import FREE_TEXT, Lark
from tests.chat import guidance
from tests.chat.formats.reading import Read, every_split, read
from tests.chat.formats.shapes import CLOCK, SQUARE, TOOLS, WEATHER

GENERIC = GenericCalls()
THINKING = GenericCalls(reasoning=Marks("<think>", "</think>"))
GET = ("id0", "get", '{"n": 3}')
CALLS = '{"tool_calls": [{"name": "get", "arguments": {"n": 3}}, {"name": "get_time", "arguments": {}}]}'


def turn(text: str, tools: dict[str, Tool] = TOOLS) -> Read:
    whole = read(GENERIC, [text], tools)
    for pieces in every_split(text):
        assert read(GENERIC, pieces, tools) == whole, pieces
    return whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALLS, Read("", "", [GET, ("id1", "get_time", "{}")])),
        (CALLS[:-2], Read("", "", [GET, ("id1", "get_time", "{}")])),
        (CALLS.split(", {")[0], Read("", "", [GET])),
        ('{"tool_calls": {"name": "get", "arguments": {"n": 3}}}\n', Read("", "", [GET])),
        ('{"response": "Hello\\n\\"you\\""}', Read('Hello\n"you"')),
        ('\n{ "response" : "Hello" } \n', Read("Hello")),
        ('{"response": "\\ud834\\udd1e \\ud834 \\udd1e\\ud834\\u0041 \\q \\u00e9 \\uzz"}', Read("𝄞 � ��A \\q é \\uzz")),
        ('{"response": "Hel', Read("Hel")),
        ('{"response": "Hel\\', Read("Hel")),
        ('{"response": "Hel\\u00', Read("Hel")),
        ('{"response": "Hel\\ud834\\udd', Read("Hel\ufffd")),
        ('{"response": {"a": [1, "}"]}}', Read('{"a": [1, "}"]}')),
        ('{"response": 3.5}', Read("3.5")),
        (
            '{"response": "Let me see", "tool_calls": [{"name": "get", "arguments": {"n": 3}}]}',
            Read("Let me see", "", [GET]),
        ),
        ('{"tool_calls": [{"name": "get", "arguments": {"n": 3}}], "response": "So"}', Read("So", "", [GET])),
        ('{"response": "a"} and on', Read("aand on")),
        ("Hello", Read("Hello")),
        ("{Hello}", Read("{Hello}")),
        ('{"answer": 3}', Read('{"answer": 3}')),
        ('{"tool_calls": []}', Read('{"tool_calls": []}')),
        ('{"tool_calls": [{"name": "no"}]}', Read('{"tool_calls": [{"name": "no"}]}')),
        ('{"tool_calls": null}', Read('{"tool_calls": null}')),
        ("{}", Read("{}")),
        ('{"resp', Read('{"resp')),
        ("", Read()),
    ],
)
def test_turns(text: str, expected: Read) -> None:
    assert turn(text) == expected


@pytest.mark.parametrize("text", [CALLS, '{"response": "Hello\\n\\"you\\""}', f"<think>hm</think>{CALLS}"])
def test_a_limit_leaves_no_half_markup(text: str) -> None:
    whole = read(THINKING, [text])
    for end in range(len(text)):
        part = read(THINKING, text[:end], at_limit=True)
        assert part == read(THINKING, [text[:end]], at_limit=True)
        assert whole.content.startswith(part.content)
        assert whole.reasoning.startswith(part.reasoning.partition("<")[0])
        assert [call[:2] for call in part.calls] == [call[:2] for call in whole.calls[: len(part.calls)]]


def test_without_tools_answers_are_still_taken_out() -> None:
    assert turn('{"response": "Hello"}', {}) == Read("Hello")
    assert turn(CALLS, {}) == Read(CALLS)


def test_reasoning_comes_first() -> None:
    for pieces in every_split('<think>\nwhy\n</think>\n{"response": "Hello"}'):
        assert read(THINKING, pieces) == Read("Hello", "why")
    for pieces in every_split('why\n</think>\n{"response": "Hello"}'):
        assert read(THINKING, pieces, reasoning_open=True) == Read("Hello", "why")
    assert (THINKING.markers, THINKING.call_starts) == (("<think>", "</think>"), ())


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=20), ascii_only=st.booleans())
def test_any_answer_survives(text: str, ascii_only: bool) -> None:
    assert turn(json.dumps({"response": text}, ensure_ascii=ascii_only)).content == text


def source_of(*tools: Tool, body: str = FREE_TEXT, parallel: bool = True) -> str:
    lark = Lark()
    return lark.source(lark.choice(GENERIC.calls(lark, tools, parallel=parallel), GENERIC.answer(lark, body)))


def test_the_grammar_accepts_both_forms() -> None:
    lark = source_of(SQUARE, CLOCK)
    assert guidance.accepts(lark, CALLS)
    assert guidance.accepts(lark, '{"response": "Hello \\"you\\" ü"}')
    assert not guidance.accepts(lark, "Hello")
    assert not guidance.accepts(lark, '{"response": 3}')
    assert not guidance.accepts(lark, '{"tool_calls": []}')
    assert not guidance.accepts(lark, '{"tool_calls": [{"name": "get_weather", "arguments": {"city": ""}}]}')
    assert not guidance.accepts(source_of(SQUARE, CLOCK, parallel=False), CALLS)


def test_an_answer_with_a_schema() -> None:
    lark = Lark()
    source = lark.source(GENERIC.answer(lark, lark.json({"type": "object", "properties": {"a": {"type": "integer"}}})))
    assert guidance.accepts(source, '{"response": {"a": 3}}')
    assert not guidance.accepts(source, '{"response": {"a": "b"}}')
    assert not guidance.accepts(source, '{"a": 3}')


def test_the_rule_of_any_text_is_any_text_too() -> None:
    lark = Lark()
    assert guidance.accepts(lark.source(GENERIC.answer(lark, lark.rule(FREE_TEXT))), '{"response": "Hello"}')


@pytest.mark.parametrize("seed", range(20))
def test_what_the_grammar_makes_is_read(seed: int) -> None:
    text = guidance.sample(source_of(*TOOLS.values()), seed)
    result = read(GENERIC, [text])
    if "tool_calls" in json.loads(text):
        assert (result.content, [name for name, _ in result.values]) == (
            "",
            [call["name"] for call in json.loads(text)["tool_calls"]],
        )
    else:
        assert (result.content, result.calls) == (json.loads(text)["response"], [])


def test_the_instructions_show_every_tool_and_both_forms() -> None:
    text = instructions([Tool(name="say {it}", description="Süß"), WEATHER])
    assert '{"name": "say {it}", "description": "Süß", "parameters": {"type": "object"}}' in text
    assert json.dumps(WEATHER.parameters) in text
    assert '{"tool_calls": [{"name": ' in text
    assert '{"response": ' in text


@pytest.mark.parametrize(
    ("message", "role", "meaning"),
    [
        (
            {"role": "tool", "tool_call_id": "id0", "name": "get", "content": "9"},
            "user",
            {"tool_result": {"name": "get", "id": "id0", "content": "9"}},
        ),
        (
            {"role": "tool", "content": [{"type": "text", "text": "9"}]},
            "user",
            {"tool_result": {"content": "9"}},
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "get", "arguments": '{"n":3}'}}],
            },
            "assistant",
            {"tool_calls": [{"name": "get", "arguments": {"n": 3}}]},
        ),
        (
            {"role": "assistant", "content": "So", "tool_calls": [{"function": {"name": "get", "arguments": "{n"}}]},
            "assistant",
            {"response": "So", "tool_calls": [{"name": "get", "arguments": "{n"}]},
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_time"}}]},
            "assistant",
            {"tool_calls": [{"name": "get_time", "arguments": {}}]},
        ),
    ],
)
def test_history_is_json_text(message: dict[str, Any], role: str, meaning: Any) -> None:
    retold = history(message)
    assert retold["role"] == role
    assert set(retold) == {"role", "content"}
    assert json.loads(retold["content"]) == meaning


def test_other_messages_stay_as_they_are() -> None:
    for message in (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "reasoning_content": "x"},
    ):
        assert history(message) == message


def test_past_calls_are_written_as_new_ones_are_read() -> None:
    calls = [{"function": {"name": "get", "arguments": {"n": 3}}}, {"function": {"name": "get_time", "arguments": {}}}]
    assert history({"role": "assistant", "content": "", "tool_calls": calls})["content"] == CALLS
