"""Schemas of tools that are more than llguidance can do: what of them is demanded, by who has to know."""

import contextlib
import json
from typing import Any, Final

import llguidance
import pytest

from engine.errors import InvalidRequest
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.formats.base import ChatFormat, Tool, ToolSyntax
from llamabox.chat.formats.members import variants
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.grammar.outline import outlined
from llamabox.chat.grammar.turn import json_grammar, turn_grammar
from tests.chat import guidance
from tests.chat.counted import Counted
from tests.chat.formats.shapes import SYNTAXES
from tests.chat.formats_known.cases import CASES
from tests.chat.formats_known.reading import CLOCK, WEATHER, read

FORMS: Final[dict[str, ChatFormat | ToolSyntax]] = {
    **{case.name: case.form for case in CASES if case.canonical},
    **SYNTAXES,
}
by_name = pytest.mark.parametrize("name", FORMS)
CLOSING: Final = (
    "'", '<|"|>', "</|DSML|parameter>", "</|DSML|invoke>\n</|DSML|tool_calls>",
    *sorted({
        end.strip()
        for syntax in SYNTAXES.values()
        if isinstance(syntax, TaggedArguments)
        for end in (syntax.value_end, syntax.key_end)
    }),
)  # fmt: skip

# What clients send: MCP servers, zod's records, hand-written schemas.
IGNORABLE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "format": "uri-template"},
        "map": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "number"}},
        "set": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "some": {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 3}]},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOO_MUCH: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "pattern": "^(?=P)"},
        "far": {"$ref": "https://example.org/schema.json"},
        "odd": {"type": "strang"},
        "days": {"type": "array", "items": {"type": "integer"}, "minItems": 100_000_000},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city", "days", "nowhere"],
}


def tool(parameters: dict[str, Any], *, strict: bool = False) -> Tool:
    return Tool(name="look", parameters=parameters, strict=strict)


def form(name: str) -> ChatFormat:
    found = FORMS[name]
    return found if hasattr(found, "answer") else StandardFormat(tools=found)


def required(*tools: Tool) -> ChatAsk:
    return ChatAsk(messages=[], tools=tools, choice=ToolChoice.REQUIRED)


def compiles(source: str) -> bool:
    return not llguidance.LLMatcher.validate_grammar(llguidance.LLMatcher.grammar_from_lark(source))


@by_name
def test_what_is_not_known_in_a_tools_schema_is_ignored_unless_it_is_strict(name: str) -> None:
    spec = turn_grammar(required(tool(IGNORABLE)), form(name), {})
    assert spec is not None
    assert compiles(spec.source)
    strict = turn_grammar(required(tool(IGNORABLE, strict=True)), form(name), {})
    assert strict is not None
    assert strict.instead is None
    if '"propertyNames"' in strict.source.replace("\\", ""):
        assert not compiles(strict.source)


@by_name
def test_of_what_cannot_be_compiled_the_outline_is_left(name: str) -> None:
    spec = turn_grammar(required(tool(TOO_MUCH), CLOCK), form(name), {})
    assert spec is not None
    assert spec.instead is not None
    less = spec.instead()
    assert compiles(less.source)
    assert less.triggers == spec.triggers
    found = read(FORMS[name], sampled(less.source), tools={"look": tool(TOO_MUCH), CLOCK.name: CLOCK})
    assert found.calls
    for call in found.calls:
        arguments = json.loads(call.arguments)
        if call.name == "look":
            assert isinstance(arguments["city"], str)
            assert isinstance(arguments["days"], list)


@by_name
@pytest.mark.parametrize(("levels", "linked"), [(185, False), (400, True)])
def test_of_what_goes_too_deep_the_outline_is_left(name: str, levels: int, linked: bool) -> None:
    """Whether by nesting, as far as a request may, or by references from one definition to the next."""
    schema: dict[str, Any] = {"type": "string"}
    definitions: dict[str, Any] = {}
    for level in range(levels):
        if linked:
            definitions[f"at{level}"] = schema
            schema = {"type": "object", "properties": {"a": {"$ref": f"#/$defs/at{level}"}}}
        else:
            schema = {"type": "array", "items": schema}
    deep = {"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": definitions}
    spec = turn_grammar(required(tool(deep), CLOCK), form(name), {})
    assert spec is not None
    assert compiles(spec.source) or (spec.instead is not None and compiles(spec.instead().source))
    too_deep = linked and name in ("gemma 4 call", "lfm2 calls")  # whose grammars are written here, level by level
    with pytest.raises(InvalidRequest) if too_deep else contextlib.nullcontext():
        strict = turn_grammar(required(tool(deep, strict=True)), form(name), {})
        assert strict is not None
        assert strict.instead is None


@by_name
def test_an_outline_is_not_made_of_strict_tools(name: str) -> None:
    """One of both kinds: the strict one is refused, whatever becomes of the other."""
    spec = turn_grammar(required(tool(TOO_MUCH, strict=True), WEATHER), form(name), {})
    assert spec is not None
    if not compiles(spec.source):
        assert spec.instead is not None
        assert not compiles(spec.instead().source)


def test_the_outline_of_a_schema() -> None:
    assert outlined(tool(TOO_MUCH)).parameters == {
        "type": "object",
        "properties": {
            "city": {"type": ["string"]},
            "far": {},
            "odd": {},
            "days": {"type": ["array"]},
            "unit": {"enum": ["C", "F"]},
        },
        "required": ["city", "days"],
    }
    assert outlined(tool({})).parameters == {"type": "object", "properties": {}}
    referring = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "null"}}}
    for more, expected in ((False, False), (True, True), ({"type": "strang"}, True)):
        found = outlined(tool({**referring, "additionalProperties": more})).parameters
        named = {"a": {"type": ["null"]}}
        assert found == {"type": "object", "properties": named, "additionalProperties": expected}


def test_alternatives_that_multiply_are_anything() -> None:
    some = [{"title": str(number)} for number in range(40)]
    schema = {"anyOf": some, "oneOf": [{"type": "string"}, {"type": "null"}]}
    assert len(variants(schema, {}, follow=True)) == 80
    assert variants({**schema, "oneOf": some}, {}, follow=True) == [True]


@by_name
def test_what_is_a_part_of_many_variants_is_written_once(name: str) -> None:
    """Two variants on each of twelve levels would be as many as 2 to the 12th."""
    schema: dict[str, Any] = Counted({"type": "string"})
    for _ in range(12):
        schema = {"type": "object", "properties": {"p": schema}, "anyOf": [{"required": ["p"]}, {"title": "t"}]}
    assert turn_grammar(required(tool(schema)), form(name), {}) is not None


def test_an_outline_is_its_own_outline() -> None:
    """Else there would be something to try for ever."""
    for parameters in (IGNORABLE, TOO_MUCH, {}):
        once = outlined(tool(parameters))
        assert outlined(once) == once


@pytest.mark.parametrize("strict", [True, False])
def test_the_answers_schema_is_ignored_where_it_is_not_known_unless_it_is_strict(strict: bool) -> None:
    assert compiles(json_grammar(IGNORABLE, strict=strict).source) is not strict
    ask = ChatAsk(messages=[], schema=IGNORABLE, strict=strict)
    spec = turn_grammar(ask, StandardFormat(), {})
    assert spec is not None
    assert compiles(spec.source) is not strict
    assert guidance.accepts(json_grammar({"enum": ["a"]}, strict=strict).source, '"a"')


def sampled(source: str, seed: int = 3) -> str:
    """Samples are ASCII, and so has the grammar to be; only Deepseek's old format writes other text in its marks."""
    if "DSML" not in source:
        return guidance.sample(source, seed, closing=CLOSING)
    return guidance.sample(source.replace("\uff5c", "|"), seed, closing=CLOSING).replace("|DSML|", "\uff5cDSML\uff5c")
