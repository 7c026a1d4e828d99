"""Reasoning, text and calls in one turn."""

import pytest

from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.grammar.lark import Lark
from tests.chat.formats.reading import Read, every_split, parser_of, read
from tests.chat.formats.shapes import HERMES, LLAMA3, TOOLS

THINK = Marks("<think>\n", "\n</think>\n\n")
CALL = '<tool_call>\n{"name": "get", "arguments": {"n": 3}}\n</tool_call>'
GET = [("id0", "get", '{"n": 3}')]


def turn(text: str, *, reasoning_open: bool = False) -> Read:
    """What it means, however it arrives."""
    whole = read(HERMES, [text], reasoning=THINK, reasoning_open=reasoning_open)
    for pieces in every_split(text):
        assert read(HERMES, pieces, reasoning=THINK, reasoning_open=reasoning_open) == whole, pieces
    return whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nwhy\n</think>\n\nHello", Read("Hello", "why")),
        (" \n<think>why</think>Hello", Read("Hello", "why")),
        ("<think>\n\n</think>\n\nHello\n", Read("Hello\n", "")),
        (f"<think>\nwhy\n</think>\n\nHello\n{CALL}", Read("Hello", "why", GET)),
        (f"<think>\nwhy\n</think>\n\n{CALL}\n", Read("", "why", GET)),
        (f"<think>\nwhy\n{CALL}", Read("", "why", GET)),
        (f"<think>\nwhy\n\n{CALL}\n</think>", Read("</think>", "why", GET)),
        ("<think>\nwhy, <tool_call> \n is\n</think>\nHello", Read("Hello", "why, <tool_call> \n is")),
        ("<think>\nwhy", Read("", "why")),
        ("<thin", Read("<thin", "")),
        ("Hello <think>why</think>", Read("Hello <think>why</think>", "")),
        (f"Hello\n\n{CALL}\n\nBye\n", Read("Hello\n\nBye\n", "", GET)),
        (f"{CALL}\n\nBye", Read("Bye", "", GET)),
        (f"{CALL} \n {CALL}", Read("", "", [*GET, ("id1", "get", '{"n": 3}')])),
        ("a <tool_call>\n nothing\n <tool_", Read("a <tool_call>\n nothing\n <tool_", "")),
        ("", Read()),
        (" \n", Read(" \n", "")),
    ],
)
def test_turns(text: str, expected: Read) -> None:
    assert turn(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("why\n</think>\n\nHello", Read("Hello", "why")),
        ("<think>\nwhy\n</think>Hello", Read("Hello", "why")),
        ("\nwhy", Read("", "why")),
        ("</think>Hello", Read("Hello", "")),
        (f"why {CALL}", Read("", "why", GET)),
    ],
)
def test_reasoning_that_the_prompt_opened(text: str, expected: Read) -> None:
    assert turn(text, reasoning_open=True) == expected


def test_reasoning_is_no_place_for_calls_without_marks() -> None:
    text = '<think>{"name": "get", "parameters": {}}</think>{"name": "get", "parameters": {}}'
    for pieces in every_split(text):
        result = read(LLAMA3, pieces, reasoning=THINK)
        assert result == Read("", '{"name": "get", "parameters": {}}', [("id0", "get", "{}")])


def test_an_answer_between_marks() -> None:
    wrapped = StandardFormat(reasoning=THINK, wrapping=Marks("<response>", "</response>"))
    text = "<think>why</think>\n<response> Hello\n<world> </response>\n"
    for pieces in every_split(text):
        assert read(wrapped, pieces) == Read("Hello\n<world>", "why")
    lark = Lark({"</response>": 7})
    assert wrapped.answer(lark, '"x"') == '"<response>" "x" <[7]>'
    assert wrapped.markers == ("<think>\n", "\n</think>\n\n", "<response>", "</response>")


def test_what_a_format_says_of_itself() -> None:
    plain, bare, marked = StandardFormat(), StandardFormat(tools=LLAMA3), StandardFormat(tools=HERMES)
    assert (plain.call_starts, bare.call_starts, marked.call_starts) == ((), (), ("<tool_call>",))
    assert plain.answer(Lark(), "body") == "body"
    assert marked.markers == ("<tool_call>\n", "\n</tool_call>", "\n")


def test_what_has_begun_is_known_at_once() -> None:
    parser = parser_of(HERMES, TOOLS, reasoning=THINK)
    assert [parser.feed(text) for text in (" ", "<thi", "nk>", " ")] == [[], [], [], []]
    assert not parser.answering
    parser.feed("why")
    assert not parser.answering
    parser.feed("</think>")
    assert not parser.answering
    parser.feed(CALL[:-20])
    assert parser.answering
    assert parser.calls == 1


BARE = '{"name": "get", "arguments": {"n": 3}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BARE, Read("", "", GET)),
        (f"\n{BARE}\n", Read("", "", GET)),
        (f"{BARE}\n</tool_call>", Read("", "", GET)),
        (f"```json\n{BARE}\n```", Read("", "", GET)),
        (f"<think>\nwhy\n</think>\n\n{BARE}", Read("", "why", GET)),
        (f"{BARE}\n{CALL}", Read("", "", [*GET, ("id1", "get", '{"n": 3}')])),
        (f"{BARE} Bye", Read("Bye", "", GET)),
        (f"{{{BARE}}}", Read("", "", GET)),
        (f"<tool_call>\n{{{BARE}}}\n</tool_call>", Read("", "", GET)),
    ],
)
def test_calls_at_the_beginning_need_no_marks(text: str, expected: Read) -> None:
    assert turn(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 3}',
        '```json\n{"name": "nobody", "arguments": {}}\n```',
        ' {"name": 1}',
        f"Look: {BARE}",
        "\n  ",
        " x",
        "```",
    ],
)
def test_json_that_is_no_call_is_the_answer(text: str) -> None:
    assert turn(text) == Read(text, "")
