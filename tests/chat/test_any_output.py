"""Whatever a model writes, wherever it ends: how it arrives does not matter, and nothing fails."""

import itertools
import re
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.analysis.choose import format_of
from llamabox.chat.deltas import CallArguments, CallStarted, Delta
from llamabox.chat.formats.base import ChatFormat, Tool
from llamabox.chat.formats.generic import GenericCalls
from llamabox.chat.parser import OutputParser
from tests.chat.analysis.templates import describe
from tests.chat.families import CONTENT, FAMILIES, FULL, REASONING, TOOLS, Family
from tests.chat.joining import joined

OFFERED = {
    function["name"]: Tool(name=function["name"], parameters=function["parameters"])
    for function in (tool["function"] for tool in TOOLS)
}
GENERIC: Final = (
    '{"tool_calls": [{"name": "get_weather", "arguments": {"city": "Z\\u00fcrich", "days": 1}}, {"name": "get"}]}'
    ' {"response": "So \\ud83d\\ude00"}'
)
CUTS: Final[list[dict[str, Any]]] = [{"at_limit": True}, {"stop_string": "END"}]
_PARTS: Final = re.compile(r"\w+|\s+|.", re.DOTALL)  # what a model's tokens may be


@cache
def format_and_texts(family: Family | None) -> tuple[ChatFormat, tuple[str, ...]]:
    """A format, and turns in it; None: the generic one."""
    if family is None:
        return GenericCalls(), (GENERIC, GENERIC.replace(": ", ":\n"))
    calls = FULL if family.parallel else FULL[:1]
    texts = [family.wire(content=CONTENT, reasoning=REASONING if family.reasoning else "")]
    if family.tools:
        texts += [wire(calls, "", REASONING if family.reasoning else "") for wire in (family.writes, *family.also)]
    return format_of(family.source, describe(family.source)), tuple(texts)


@st.composite
def outputs(draw: st.DrawFn, texts: tuple[str, ...], marks: tuple[str, ...]) -> str:
    """Turns with parts left out, doubled and in another order, between marks, names and brackets."""
    text = draw(st.sampled_from(texts))
    parts = _PARTS.findall(text)
    stretch = st.tuples(st.integers(0, len(parts)), st.integers(0, len(parts))).map(
        lambda ends: "".join(parts[min(ends) : max(ends)])
    )
    noise = st.sampled_from([*marks, *OFFERED, *'{}[]<>"\\:,\n ', "```json", '{"name": "', "\\u", "null", "x"])
    pieces = draw(st.lists(st.one_of(stretch, noise, st.just(text)), min_size=1, max_size=6))
    return "".join(pieces)


def read(
    chat_format: ChatFormat, pieces: list[str], *, reasoning_open: bool, parallel: bool, end: dict[str, Any]
) -> tuple[list[Delta], bool, bool]:
    """All deltas, neighbours of a kind joined, and what else the parser says of the turn."""
    fresh = itertools.count()
    parser = OutputParser(
        chat_format,
        tools=OFFERED,
        parallel=parallel,
        reasoning_open=reasoning_open,
        new_id=lambda: f"fresh{next(fresh)}",
    )
    deltas = joined([*(delta for piece in pieces for delta in parser.feed(piece)), *parser.finish(**end)])
    assert all(isinstance(delta, CallStarted) or delta.text for delta in deltas)
    return deltas, parser.in_call, parser.over


def calls_of(deltas: list[Delta]) -> list[tuple[str, str, str]]:
    """Ids, names and arguments."""
    begun = [delta for delta in deltas if isinstance(delta, CallStarted)]
    assert [call.index for call in begun] == list(range(len(begun)))
    arguments = {delta.index: delta.text for delta in deltas if isinstance(delta, CallArguments)}
    return [(call.id, call.name, arguments.get(call.index, "")) for call in begun]


every = pytest.mark.parametrize("family", [*FAMILIES, None], ids=lambda family: family.name if family else "generic")


@every
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_pieces_do_not_matter(family: Family | None, data: st.DataObject) -> None:
    chat_format, texts = format_and_texts(family)
    text = data.draw(outputs(texts, chat_format.markers))
    options: dict[str, Any] = {
        "reasoning_open": data.draw(st.booleans()),
        "parallel": data.draw(st.booleans()),
        "end": data.draw(st.sampled_from([{}, *CUTS])),
    }
    whole = read(chat_format, [text], **options)
    assert read(chat_format, list(text), **options) == whole
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    assert read(chat_format, pieces, **options) == whole
    assert len(calls_of(whole[0])) <= 1 or options["parallel"]


def check_cut(part: tuple[list[Delta], bool, bool], whole: tuple[list[Delta], bool, bool]) -> None:
    """The calls are those of the whole text, as far as it comes: all of each, unless the last is said to be cut."""
    deltas, in_call, _ = part
    begun, all_of_them = calls_of(deltas), calls_of(whole[0])
    assert len(begun) <= len(all_of_them)
    for number, ((*early, some), (*late, full)) in enumerate(zip(begun, all_of_them, strict=False), 1):
        assert early == late
        assert full.startswith(some)
        assert some.rstrip() == full.rstrip() or (in_call and number == len(begun))


@every
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_cut_off_are_the_same_calls(family: Family | None, data: st.DataObject) -> None:
    chat_format, texts = format_and_texts(family)
    text = data.draw(outputs(texts, chat_format.markers))
    end, cut = data.draw(st.integers(0, len(text))), data.draw(st.sampled_from(CUTS))
    options: dict[str, Any] = {"reasoning_open": data.draw(st.booleans()), "parallel": True}
    check_cut(read(chat_format, [text[:end]], end=cut, **options), read(chat_format, [text], end={}, **options))


@every
def test_wherever_a_turn_is_cut_off(family: Family | None) -> None:
    chat_format, texts = format_and_texts(family)
    options: dict[str, Any] = {"reasoning_open": family is not None and family.reasoning_open, "parallel": True}
    for text in texts:
        whole = read(chat_format, [text], end={}, **options)
        for end in range(len(text) + 1):
            for cut in CUTS:
                check_cut(read(chat_format, [text[:end]], end=cut, **options), whole)
