"""Python's literals become the JSON of the same value, in whichever pieces they arrive."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.formats.base import Tool
from llamabox.chat.formats.lfm2 import Lfm2
from llamabox.chat.formats.values import word
from tests.chat.formats_known.reading import read

F = {"f": Tool(name="f")}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def argument(text: str, *, pieces: bool = False) -> Any:
    output = f"<|tool_call_start|>[f(x={text})]<|tool_call_end|>"
    found = read(Lfm2(), output if pieces else [output], tools=F)
    assert not found.content
    return json.loads(found.calls[0].arguments)["x"]


@settings(max_examples=150)
@given(values, st.booleans())
def test_every_literal(value: Any, pieces: bool) -> None:
    assert argument(repr(value), pieces=pieces) == value


@settings(max_examples=60)
@given(values)
def test_json_is_understood_too(value: Any) -> None:
    assert argument(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a\\x41\\u0042\\U00000043\\n\\t\\\\'", "aABC\n\t\\"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\ud83d!"', "\ufffd!"),
        ('"\\ud83d\\u0041"', "\ufffdA"),
        ("'\\q\\xg'", "\\q\\xg"),
        ("'''it's\n'''", "it's\n"),
        ("'a\\\nb'", "ab"),
        ("('a', 1)", ["a", 1]),
        ("()", []),
        ("[1, 2,]", [1, 2]),
        ("{'a': 1, 2: None,}", {"a": 1, "2": None}),
        ("[[], {}]", [[], {}]),
        ("1_000", 1000),
        ("+5", 5),
        (".5", 0.5),
        ("0xff", 255),
        ("1e3", 1000.0),
        ("inf", "inf"),
        ("007", "007"),
        ("2024-10-15", "2024-10-15"),
        ("Berlin", "Berlin"),
        ("1.2.3", "1.2.3"),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_what_models_write(text: str, value: Any) -> None:
    for pieces in (False, True):
        assert argument(text, pieces=pieces) == value


def test_words_are_the_json_of_numbers_as_they_stand() -> None:
    assert word(" 1.50 ") == "1.50"
    assert word("1" * 5000) == "1" * 5000


def test_arguments_without_names_take_the_schemas() -> None:
    tool = Tool(name="f", parameters={"properties": {"a": {}, "b": {}, "c": {}}})
    text = "<|tool_call_start|>[f('x', True, c=3)]<|tool_call_end|>"

    assert read(Lfm2(), text, tools={"f": tool}).parsed == [("f", {"a": "x", "b": True, "c": 3})]
    assert not json_or_none(read(Lfm2(), [text], tools=F).calls[0].arguments)


def json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
