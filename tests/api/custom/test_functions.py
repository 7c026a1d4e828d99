"""Custom tools as the functions that the model sees."""

import json
from typing import Any

import pytest

from api.custom.functions import as_function
from api.errors import ApiError
from api.tools import function_tool
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.formats.base import Tool
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.grammar.turn import turn_grammar
from tests.chat import guidance
from tests.chat.formats.shapes import HERMES

LARK = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"\n'}


def shown(given: object, *, nested: bool = False) -> Tool:
    return function_tool(as_function(given, "tools[0]", nested=nested), "tools[0]")


def regex(definition: str) -> dict[str, str]:
    return {"type": "grammar", "syntax": "regex", "definition": definition}


def test_it_is_a_function_of_one_text() -> None:
    tool = shown({"type": "custom", "name": "patch", "description": "Edits files.", "format": {"type": "text"}})
    assert (tool.name, tool.strict) == ("patch", False)
    assert tool.description == "Edits files.\n\nThe argument `input` is free text."
    assert tool.parameters == {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    for bare in ({"name": "patch"}, {"name": "patch", "description": None, "format": None}):
        assert shown(bare).description == "The argument `input` is free text."


@pytest.mark.parametrize("nested", [False, True])
def test_the_model_is_told_the_grammar(nested: bool) -> None:
    for grammar, kind, pattern in ((LARK, "Lark grammar", None), (regex("a|b"), "regular expression", "^(?:a|b)$")):
        given = {"type": "grammar", "grammar": grammar} if nested else grammar
        tool = shown({"name": "patch", "format": given}, nested=nested)
        assert tool.description.endswith(f"must match this {kind}:\n{grammar['definition']}")
        assert tool.parameters["properties"]["input"].get("pattern") == pattern


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, ""),
        ("patch", ""),
        ({}, ".name"),
        ({"name": "a b"}, ".name"),
        ({"name": "f", "description": 5}, ".description"),
        ({"name": "f", "format": "text"}, ".format.type"),
        ({"name": "f", "format": {}}, ".format.type"),
        ({"name": "f", "format": {"type": ["text"]}}, ".format.type"),
        ({"name": "f", "format": {"type": "grammar"}}, ".format"),
        ({"name": "f", "format": {**LARK, "syntax": "gbnf"}}, ".format.syntax"),
        ({"name": "f", "format": {**LARK, "definition": 5}}, ".format.definition"),
    ],
)
def test_what_is_wrong_is_named(given: object, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        shown(given)
    assert (caught.value.status, caught.value.param) == (400, f"tools[0]{param}")


@pytest.mark.parametrize("format_", [LARK, {"type": "grammar", "grammar": "x"}, {"type": "grammar"}])
def test_a_nested_format_is_named_as_well(format_: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        shown({"name": "f", "format": format_}, nested=True)
    assert caught.value.param == "tools[0].format.grammar"


def source(tool: Tool) -> str:
    ask = ChatAsk(messages=[], tools=(tool,), choice=ToolChoice.REQUIRED)
    spec = turn_grammar(ask, StandardFormat(tools=HERMES), {})
    assert spec is not None
    return spec.source


@pytest.mark.parametrize(
    ("definition", "text", "fits"),
    [
        ("SELECT .+", 'SELECT "é"\\', True),
        ("SELECT .+", "xSELECT a", False),
        ("SELECT .+", "SELECT a\nb", False),
        (r"(?s)SELECT .+", "SELECT a\nb", True),
        (r"^\d{2}|none$", "none", True),
        (r"\d{2}|none", "12", True),
        (r"\d{2}|none", "1none", False),
    ],
)
def test_a_regular_expression_is_demanded_of_the_whole_text(definition: str, text: str, fits: bool) -> None:
    call = {"name": "query", "arguments": {"input": text}}
    output = f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"
    assert guidance.accepts(source(shown({"name": "query", "format": regex(definition)})), output) is fits


def test_what_no_grammar_can_demand_is_left_out() -> None:
    ask = ChatAsk(messages=[], tools=(shown({"name": "query", "format": regex("a(?=b)")}),), choice=ToolChoice.REQUIRED)
    spec = turn_grammar(ask, StandardFormat(tools=HERMES), {})
    assert spec is not None
    assert spec.instead is not None
    call = '<tool_call>\n{"name": "query", "arguments": {"input": "x"}}\n</tool_call>'
    assert guidance.accepts(spec.instead().source, call)
