"""Reading and constraining agree, for every learned syntax and every way in which the text may arrive."""

from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.deltas import CallArguments
from llamabox.chat.formats.base import Tool, ToolSyntax
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.grammar.lark import Lark
from tests.chat import guidance
from tests.chat.formats.reading import every_split, parser_of, read
from tests.chat.formats.shapes import (
    CLOCK,
    SPECIAL,
    SQUARE,
    SYNTAXES,
    TOOLS,
    WEATHER,
    Call,
    canonical,
)

ALL = pytest.mark.parametrize("family", SYNTAXES)

# Characters that marks and JSON are made of, and some that need several bytes or an escape.
_TEXT = st.text(alphabet=st.sampled_from(list("ab <>/={}[]()|,;:\"'\\\n\t\u0001ü€𝄞\uff5c▁")), max_size=6)
_PLACE = st.fixed_dictionaries({}, optional={"lat": st.integers(-9, 9), "near": st.lists(_TEXT, max_size=2)})
_WEATHER = st.fixed_dictionaries(
    {"city": _TEXT},
    optional={
        "unit": st.sampled_from(["celsius", "kelvin"]),
        "days": st.integers(-100, 100),
        "note": _TEXT.filter(lambda text: text.strip() != "null") | st.none(),
        "where": _PLACE,
    },
)
_SQUARE = st.fixed_dictionaries({}, optional={"n": st.integers(0, 10**9), "exact": st.booleans()})
_CALL = st.one_of(
    st.tuples(st.just("get_weather"), _WEATHER),
    st.tuples(st.just("get"), _SQUARE),
    st.tuples(st.just("get_time"), st.just({})),
)
_CALLS = st.lists(_CALL, min_size=1, max_size=2)


def source_of(syntax: ToolSyntax, *tools: Tool, parallel: bool = True, family: str = "") -> str:
    lark = Lark(guidance.special_ids(SPECIAL.get(family, ())))
    return lark.source(syntax.grammar(lark, tools or tuple(TOOLS.values()), parallel=parallel))


def sayable(syntax: ToolSyntax, calls: list[Call]) -> bool:
    """Whether a text says these calls: raw strings may not contain the mark that ends them."""
    if not isinstance(syntax, TaggedArguments):
        return True
    strings = [value for _, arguments in calls for value in arguments.values() if isinstance(value, str)]
    return not any(syntax.value_end.strip() in f"{text}{syntax.value_end}"[:-1] for text in strings)


def in_order(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """As the schemas have them; grammars know no other order."""
    order = ["city", "unit", "days", "note", "where", "lat", "near", "n", "exact"]
    found = {key: in_order(value) if isinstance(value, dict) else value for key, value in arguments.items()}
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


@ALL
@settings(max_examples=8, deadline=None)
@given(calls=_CALLS)
def test_every_split_says_the_same_calls(family: str, calls: list[Call]) -> None:
    syntax = SYNTAXES[family]
    if not sayable(syntax, calls):
        return
    whole = read(syntax, [canonical(syntax, calls)], TOOLS)
    assert whole.values == [(name, dict(arguments)) for name, arguments in calls]
    assert whole.content == ""
    for pieces in every_split(canonical(syntax, calls)):
        assert read(syntax, pieces, TOOLS) == whole, pieces


@ALL
@settings(max_examples=25, deadline=None)
@given(calls=_CALLS)
def test_the_grammar_accepts_what_the_template_would_write(family: str, calls: list[Call]) -> None:
    syntax = SYNTAXES[family]
    if not sayable(syntax, calls):
        return
    special = SPECIAL.get(family, ())
    text = canonical(syntax, [(name, in_order(arguments)) for name, arguments in calls])
    lark = source_of(syntax, family=family)
    assert guidance.accepts(lark, text, special), (text, guidance.accepted(lark, text, special))


@ALL
def test_control_tokens_are_needed_as_such(family: str) -> None:
    syntax, special = SYNTAXES[family], SPECIAL.get(family, ())
    text = canonical(syntax, [("get_time", {})])
    lark = source_of(syntax, family=family)
    assert guidance.accepts(lark, text, special)
    assert guidance.matcher(lark, special).validate_tokens(list(text.encode())) < len(text.encode()) or not special


@ALL
@pytest.mark.parametrize("seed", range(8))
def test_what_the_grammar_makes_is_read_as_calls(family: str, seed: int) -> None:
    syntax = SYNTAXES[family]
    closing = (syntax.value_end, syntax.key_end) if isinstance(syntax, TaggedArguments) else ()
    special = SPECIAL.get(family, ())
    text = guidance.sample(source_of(syntax, family=family), seed, special, closing=[c.strip() for c in closing])
    result = read(syntax, [text], TOOLS)
    assert result.content == "", text
    assert result.calls, text
    for name, arguments in result.values:
        if not isinstance(syntax, TaggedArguments) or all(isinstance(v, str) for v in arguments.values()):
            jsonschema.validate(arguments, {"type": "object", **TOOLS[name].parameters})


@ALL
def test_the_grammar_refuses_other_calls(family: str) -> None:
    syntax, special = SYNTAXES[family], SPECIAL.get(family, ())
    good: Call = ("get_weather", {"city": "Ulm", "days": 2})

    def accepts(*calls: Call, parallel: bool = True, tools: tuple[Tool, ...] = ()) -> bool:
        lark = source_of(syntax, *tools, parallel=parallel, family=family)
        return guidance.accepts(lark, canonical(syntax, calls), special)

    assert accepts(good)
    assert accepts(good, good)
    assert accepts(good, parallel=False)
    assert accepts(good, tools=(WEATHER,))
    assert not accepts(good, good, parallel=False)
    assert not accepts(good, tools=(SQUARE, CLOCK))
    assert not accepts(("get_wether", {"city": "Ulm"}))
    assert not accepts(("get_weather", {"city": "Ulm", "days": "two"}))
    assert not accepts(("get_weather", {"city": "Ulm", "unit": "inch"}))
    assert not accepts(("get_weather", {"days": 2}))
    assert not accepts(("get_weather", {"city": "Ulm", "colour": "red"}))
    assert not accepts(("get_weather", {"city": "Ulm", "where": {"lat": "north"}}))


@ALL
def test_a_tool_without_a_schema_takes_no_named_arguments_or_any_object(family: str) -> None:
    syntax, special = SYNTAXES[family], SPECIAL.get(family, ())
    lark = source_of(syntax, CLOCK, family=family)
    assert guidance.accepts(lark, canonical(syntax, [("get_time", {})]), special)
    free = isinstance(syntax, TaggedArguments)
    assert guidance.accepts(lark, canonical(syntax, [("get_time", {"a": "b"})]), special) is not free


@ALL
def test_further_parameters_where_the_tool_asks_for_them(family: str) -> None:
    syntax, special = SYNTAXES[family], SPECIAL.get(family, ())
    tool = Tool(
        name="put",
        parameters={
            "type": "object",
            "properties": {"id": {"type": "integer"}},
            "additionalProperties": {"type": "integer"},
        },
    )
    lark = source_of(syntax, tool, family=family)
    for arguments in ({}, {"id": 1}, {"id": 1, "x": 2}, {"x": 2, "y": 3}):
        call: Call = ("put", arguments)
        text = canonical(syntax, [call])
        assert guidance.accepts(lark, text, special), text
        assert read(syntax, [text], {"put": tool}).values == [call]
    assert not guidance.accepts(lark, canonical(syntax, [("put", {"x": "y"})]), special)


@ALL
def test_arguments_come_in_pieces_and_a_call_is_named_once(family: str) -> None:
    """``Read.add`` checks that no piece is empty, and that a call is begun once."""
    syntax = SYNTAXES[family]
    long = "word " * 200
    result = read(syntax, list(canonical(syntax, [("get_weather", {"city": long})])), TOOLS)
    assert result.values == [("get_weather", {"city": long})]
    pieces = _argument_pieces(syntax, canonical(syntax, [("get_weather", {"city": long})]))
    assert len(pieces) > 900


def _argument_pieces(syntax: ToolSyntax, text: str) -> list[str]:
    seen: list[str] = []
    parser = parser_of(syntax)
    for character in text:
        seen += [delta.text for delta in parser.feed(character) if isinstance(delta, CallArguments)]
    return seen


@ALL
def test_white_space_in_the_marks_does_not_matter(family: str) -> None:
    syntax = SYNTAXES[family]
    calls: list[Call] = [("get_weather", {"city": "Ulm", "days": 2}), ("get_time", {})]
    text = canonical(syntax, calls)
    for changed in (text.replace("\n", ""), text.replace("\n", "\n\n"), text.replace("\n", " ")):
        result = read(syntax, [f"\n {changed} \n"], TOOLS)
        raw = [(name, {k: v.strip() if isinstance(v, str) else v for k, v in a.items()}) for name, a in result.values]
        assert raw == calls, changed
        assert result.content == ""


@ALL
def test_text_around_calls(family: str) -> None:
    syntax = SYNTAXES[family]
    call: Call = ("get_weather", {"city": "Ulm"})
    text = canonical(syntax, [call])
    for pieces in every_split(f"{text}\nBye"):
        assert read(syntax, pieces, TOOLS).values == [call]
    assert read(syntax, [f"{text}\nBye"], TOOLS).content.strip() == "Bye"
    before = read(syntax, [f"Hello\n{text}"], TOOLS)
    if syntax.only_first:
        assert (before.content, before.calls) == (f"Hello\n{text}", [])
    else:
        assert (before.content, before.values) == ("Hello", [call])


@ALL
def test_one_call_where_there_may_be_no_more(family: str) -> None:
    """Where another one begins the turn has ended; what stands between is told, and nothing behind."""
    syntax = SYNTAXES[family]
    calls: list[Call] = [("get_weather", {"city": "Ulm"}), ("get", {"n": 3}), ("get_time", {})]
    for pieces in every_split(f"{canonical(syntax, calls)}\nBye"):
        result = read(syntax, pieces, TOOLS, parallel=False)
        assert (result.values, result.content) == (calls[:1], ""), pieces
    one = f"{canonical(syntax, calls[:1])}\nBye"
    assert read(syntax, [one], TOOLS, parallel=False) == read(syntax, [one], TOOLS)
    parser = parser_of(syntax, parallel=False)
    parser.feed(canonical(syntax, calls[:1]))
    assert (parser.over, parser.in_call) == (False, False)
    parser = parser_of(syntax, parallel=False)
    parser.feed(canonical(syntax, calls[:2]))
    assert (parser.over, parser.in_call) == (True, False)
    assert [*parser.feed("Bye"), *parser.finish()] == []


@ALL
def test_without_tools_everything_is_content(family: str) -> None:
    text = canonical(SYNTAXES[family], [("get_weather", {"city": "Ulm"})])
    for pieces in every_split(text):
        result = read(SYNTAXES[family], pieces, {})
        assert (result.content, result.calls) == (text, [])


@ALL
def test_an_unknown_tool_is_content(family: str) -> None:
    text = canonical(SYNTAXES[family], [("get_wether", {"city": "Ulm"})])
    for pieces in every_split(text):
        result = read(SYNTAXES[family], pieces, TOOLS)
        assert (result.content, result.calls) == (text, []), pieces


@ALL
def test_a_call_behind_one_that_is_none(family: str) -> None:
    """The first is a call, the second is content as it was written."""
    syntax = SYNTAXES[family]
    text = canonical(syntax, [("get_time", {}), ("nothing", {"a": "b"})])
    for pieces in every_split(text):
        result = read(syntax, pieces, TOOLS)
        assert result.values == [("get_time", {})]
        assert "nothing" in result.content
        assert result.content in text


@ALL
def test_every_truncation_keeps_what_was_said(family: str) -> None:
    """Whatever is cut off, arguments begin like the whole ones, and a call that had not begun is content."""
    syntax = SYNTAXES[family]
    calls: list[Call] = [("get_weather", {"city": "Ulm", "days": 2}), ("get", {"n": 3})]
    text = canonical(syntax, calls)
    whole = read(syntax, [text], TOOLS)
    for end in range(len(text)):
        part = read(syntax, list(text[:end]), TOOLS)
        assert len(part.calls) <= 2
        for (_, name, arguments), (_, whole_name, whole_arguments) in zip(part.calls, whole.calls, strict=False):
            assert name == whole_name
            assert whole_arguments.startswith((arguments, arguments.removesuffix("}")))
        if not part.calls:
            assert part.content == text[:end]


@ALL
def test_a_limit_leaves_no_half_markup(family: str) -> None:
    """Wherever a limit cuts the output: what is shown is a beginning of what all of it would show."""
    syntax = SYNTAXES[family]
    calls: list[Call] = [("get_weather", {"city": "Ulm", "days": 2}), ("get", {"n": 3})]
    text = ("" if syntax.only_first else "So:\n") + canonical(syntax, calls)
    whole = read(syntax, [text], TOOLS)
    assert whole.content == ("" if syntax.only_first else "So:")
    for end in range(len(text)):
        part = read(syntax, list(text[:end]), TOOLS, at_limit=True)
        assert part == read(syntax, [text[:end]], TOOLS, at_limit=True)
        assert whole.content.startswith(part.content.rstrip()), text[:end]
        assert [name for _, name, _ in part.calls] == [name for _, name, _ in whole.calls[: len(part.calls)]]
        for (_, _, arguments), (_, _, all_of_them) in zip(part.calls, whole.calls, strict=False):
            assert all_of_them.startswith(arguments), text[:end]


@ALL
def test_a_limit_leaves_what_is_no_call(family: str) -> None:
    syntax = SYNTAXES[family]
    text = canonical(syntax, [("get_wether", {"city": "Ulm"})])
    named = text.index("get_wether") + len("get_weth") + isinstance(syntax, JsonCalls) * len('er": {')
    for end in (named, len(text)):
        part = read(syntax, [text[:end]], TOOLS, at_limit=True)
        assert (part.content, part.calls) == (text[:end], []), family
    assert read(syntax, [text[:4]], {}, at_limit=True).content == text[:4]
