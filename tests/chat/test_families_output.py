"""What every family's model writes, read by the format that the analysis of its template finds, and by its grammar."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence

import pytest

from llamabox.chat.analysis.choose import format_of
from llamabox.chat.analysis.description import Description
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta, Reasoning
from llamabox.chat.formats.base import ChatFormat, Tool
from llamabox.chat.grammar.lark import Lark
from llamabox.chat.parser import OutputParser
from tests.chat.analysis.templates import describe
from tests.chat.families import CONTENT, FAMILIES, FULL, PLAIN, REASONING, TOOLS, Family
from tests.chat.families.samples import Call
from tests.chat.families.wires import Wire
from tests.chat.guidance import accepted, accepts, sample, special_ids, tokens
from tests.chat.joining import joined

OFFERED = {
    function["name"]: Tool(name=function["name"], parameters=function["parameters"])
    for function in (tool["function"] for tool in TOOLS)
}
# As OpenAI's clients name ids; formats without ids count so here.
FRESH = "fresh{}"

every = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
calling = pytest.mark.parametrize("family", [f for f in FAMILIES if f.tools], ids=lambda family: family.name)
SPELLINGS = [
    pytest.param(family, wire, id=family.name + (f"-{number}" if number else ""))
    for family in FAMILIES
    if family.tools
    for number, wire in enumerate((family.writes, *family.also))
]


def described(family: Family) -> tuple[ChatFormat, Description]:
    description = describe(family.source)
    return format_of(family.source, description), description


def read(
    family: Family, pieces: Iterable[str], *, tools: bool = True, parallel: bool = True, at_limit: bool = False
) -> list[Delta]:
    """All deltas of a turn that arrives in pieces; neighbours of a kind joined."""
    chat_format, description = described(family)
    fresh = itertools.count()
    parser = OutputParser(
        chat_format,
        tools=OFFERED if tools else None,
        parallel=parallel,
        reasoning_open=description.opened_by_prompt,
        new_id=lambda: FRESH.format(next(fresh)),
    )
    deltas = [delta for piece in pieces for delta in parser.feed(piece)]
    return joined([*deltas, *parser.finish(at_limit=at_limit)])


def splits(text: str) -> Iterable[tuple[str, ...]]:
    """Every way to cut the text in two, and into single characters."""
    yield from ((text[:at], text[at:]) for at in range(len(text)))
    yield tuple(text)


def check(family: Family, deltas: Sequence[Delta], calls: Sequence[Call], content: str, reasoning: str) -> None:
    """The deltas say just this, in this order."""
    texts: list[Delta] = [Reasoning(reasoning)] if reasoning else []
    texts += [Content(content)] if content else []
    assert [d for d in deltas if isinstance(d, Reasoning | Content)] == texts
    told = [d for d in deltas if not isinstance(d, Reasoning | Content)]
    assert list(deltas) == [*texts, *told], "text comes before calls"
    assert len(told) == 2 * len(calls)
    for number, (name, arguments) in enumerate(calls):
        call_id = family.id_of(number, name) if family.model_ids and not family.ids_late else FRESH.format(number)
        assert told[2 * number] == CallStarted(number, call_id, name)
        written = told[2 * number + 1]
        assert isinstance(written, CallArguments)
        assert written.index == number
        assert json.loads(written.text) == arguments


@pytest.mark.parametrize(("family", "wire"), SPELLINGS)
def test_calls_under_every_split(family: Family, wire: Wire) -> None:
    calls = FULL if family.parallel else FULL[:1]
    content = CONTENT if family.content_beside_calls else ""
    reasoning = REASONING if family.reasoning else ""
    text = wire(calls, content, reasoning)
    whole = read(family, [text])
    check(family, whole, calls, content, reasoning)
    for pieces in splits(text):
        assert read(family, pieces) == whole


@pytest.mark.parametrize(("family", "wire"), SPELLINGS)
def test_a_limit_leaves_no_half_markup(family: Family, wire: Wire) -> None:
    """Wherever a limit cuts the output: what is shown is a beginning of what all of it would show."""
    calls = FULL if family.parallel else FULL[:1]
    text = wire(calls, CONTENT if family.content_beside_calls else "", REASONING if family.reasoning else "")
    halves = {
        m.start() + n
        for mark in family.special
        for m in re.finditer(re.escape(mark), text)
        for n in range(1, len(mark))
    }
    whole = read(family, [text])
    for end in sorted({*range(len(text))} - halves):
        part = read(family, [text[: end // 2], text[end // 2 : end]], at_limit=True)
        shown = [delta for delta in part if isinstance(delta, CallStarted) or delta.text.strip()]
        assert len(shown) <= len(whole), text[:end]
        for early, late in zip(shown, whole, strict=False):
            assert type(early) is type(late), text[:end]
            if isinstance(early, CallStarted):
                assert early == late
            else:
                assert late.text.startswith(early.text if isinstance(early, CallArguments) else early.text.rstrip())


@pytest.mark.parametrize(("family", "wire"), SPELLINGS)
@pytest.mark.parametrize(
    "calls", [PLAIN[:1], FULL[:1], (("get_weather", {"city": "", "days": 0}),)], ids=["plain", "full", "empty"]
)
def test_a_call_alone(family: Family, wire: Wire, calls: Sequence[Call]) -> None:
    check(family, read(family, [wire(calls, "", "")]), calls, "", "")


@pytest.mark.parametrize(("family", "wire"), [spelling for spelling in SPELLINGS if spelling.values[0].parallel])
def test_one_call_where_there_may_be_no_more(family: Family, wire: Wire) -> None:
    text = wire(FULL, "", "")
    for pieces in ((text,), *splits(text)):
        check(family, read(family, pieces, parallel=False), FULL[:1], "", "")


@every
def test_an_answer_under_every_split(family: Family) -> None:
    reasoning = REASONING if family.reasoning else ""
    text = family.wire(content=CONTENT, reasoning=reasoning)
    for tools in (True, False):
        for pieces in ((text,), *splits(text)):
            check(family, read(family, pieces, tools=tools), (), CONTENT, reasoning)


@calling
def test_without_tools_calls_are_content(family: Family) -> None:
    text = family.wire(PLAIN[:1])
    deltas = read(family, [text], tools=False)
    assert not any(isinstance(d, CallStarted | CallArguments) for d in deltas)
    assert "Zürich" in "".join(d.text for d in deltas if isinstance(d, Content))


def from_the_call(family: Family, calls: Sequence[Call]) -> str:
    """The wire without what comes before the calls."""
    chat_format, description = described(family)
    text = family.wire(calls)
    if description.reasoning and description.reasoning.end.strip() in text:
        text = text.partition(description.reasoning.end.strip())[2]
    starts = [text.index(start) for start in chat_format.call_starts if start in text]
    return text[min(starts, default=0) :].rstrip()


def grammar(family: Family, *, parallel: bool) -> str:
    lark = Lark(special_ids(family.special))
    return lark.source(described(family)[0].calls(lark, list(OFFERED.values()), parallel=parallel))


ACCEPTED = [
    pytest.param(family, calls if family.parallel else calls[:1], id=f"{family.name}-{name}")
    for family in FAMILIES
    if family.tools
    for name, calls in (("plain", PLAIN), ("full", FULL), ("one", FULL[1:]))
]


@pytest.mark.parametrize(("family", "calls"), ACCEPTED)
def test_the_grammar_accepts_what_the_model_writes(family: Family, calls: Sequence[Call]) -> None:
    text = from_the_call(family, calls)
    source = grammar(family, parallel=len(calls) > 1)
    taken = accepted(source, text, family.special)
    assert accepts(source, text, family.special), (
        f"only {taken} of {len(tokens(text, family.special))} tokens of {text}"
    )


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.tools and f.parallel], ids=lambda family: family.name)
def test_one_call_only_without_parallel_calls(family: Family) -> None:
    assert not accepts(grammar(family, parallel=False), from_the_call(family, PLAIN), family.special)


@calling
def test_the_grammar_knows_the_tools(family: Family) -> None:
    unknown = [("get_whether", {"city": "x", "days": 1})]
    assert not accepts(grammar(family, parallel=False), from_the_call(family, unknown), family.special)


@calling
def test_what_the_grammar_allows_is_read_as_calls(family: Family) -> None:
    chat_format, _ = described(family)
    for seed in range(3):
        text = sample(grammar(family, parallel=False), seed, family.special, closing=chat_format.markers)
        before = "" if not family.reasoning_open else family.wire(content="")
        deltas = read(family, [before + text])
        assert [d.name for d in deltas if isinstance(d, CallStarted)], text
        assert not "".join(d.text for d in deltas if isinstance(d, Content)).strip(), text
        assert isinstance(json.loads("".join(d.text for d in deltas if isinstance(d, CallArguments))), dict), text
