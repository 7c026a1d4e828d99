"""The reader of one choice: what goes with which part, and what its end says."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from api.turn.model import Part, TurnEnd
from api.turn.reading import TurnReader
from engine.text.events import Finished, FinishReason, Timings, Tokens
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Reasoning
from llamabox.chat.formats.base import Tool, ToolSyntax
from llamabox.chat.formats.dsml import Dsml
from llamabox.chat.parser import OutputParser
from tests.api.fake_prompts import FORMAT
from tests.chat.formats.reading import parser_of
from tests.chat.formats.shapes import SYNTAXES, canonical
from tests.chat.formats_known.cases import dsml

OUTPUT = '<think>Why é?</think>\n\nSo <b>\n<tool_call>\n{"name": "f", "arguments": {"a": "<"}}\n</tool_call>'


def reader(**options: Any) -> TurnReader:
    return TurnReader(OutputParser(FORMAT, tools={"f": Tool(name="f")}, new_id=lambda: "id"), **options)


def event(text: str, count: int | None = None) -> Tokens:
    """Text of one token a character, or of ``count`` tokens."""
    tokens = tuple(range(len(text) if count is None else count))
    return Tokens(text=text, tokens=tokens, slot=0, timings=Timings(predicted_n=len(tokens)))


def ended(text: str = "", reason: FinishReason = FinishReason.EOS, word: str = "") -> Finished:
    tokens = tuple(range(len(text)))
    return Finished(
        reason=reason, stopping_word=word, text=text, tokens=tokens, slot=0, timings=Timings(), truncated=False
    )


def read(
    given: TurnReader, pieces: Sequence[str], held_back: str = "", reason: FinishReason = FinishReason.EOS
) -> tuple[list[Part], TurnEnd]:
    parts = [given.feed(event(piece)) for piece in pieces]
    last, end = given.finish(ended(held_back, reason))
    return [part for part in (*parts, last) if part is not None], end


def joined(parts: Sequence[Part]) -> dict[str, Any]:
    whole: dict[str, Any] = {"content": "", "reasoning": "", "calls": [], "tokens": 0}
    for part in parts:
        whole["tokens"] += len(part.tokens)
        for delta in part.deltas:
            match delta:
                case Content(text):
                    whole["content"] += text
                case Reasoning(text):
                    whole["reasoning"] += text
                case CallStarted(index, call_id, name):
                    assert index == len(whole["calls"])
                    whole["calls"].append([call_id, name, ""])
                case CallArguments(index, text):
                    whole["calls"][index][2] += text
    return whole


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(st.sets(st.integers(1, len(OUTPUT) - 1)), st.integers(0, len(OUTPUT)))
def test_however_it_arrives(cuts: set[int], held_back: int) -> None:
    bounds = sorted(cut for cut in cuts if cut < held_back)
    pieces = [OUTPUT[a:b] for a, b in itertools.pairwise([0, *bounds, held_back])]
    parts, end = read(reader(), pieces, OUTPUT[held_back:])
    assert joined(parts) == {
        "content": "So <b>",
        "reasoning": "Why é?",
        "calls": [["id", "f", '{"a": "<"}']],
        "tokens": len(OUTPUT),
    }
    assert end.ending == "tool_calls"
    for part in parts[:-1]:
        assert part.deltas
    for part in parts:
        assert part.deltas or part.tokens
        assert all(isinstance(delta, CallStarted) or delta.text for delta in part.deltas)


def test_tokens_of_held_back_text_go_with_the_next_part() -> None:
    given = reader()
    assert given.feed(event("So\n<tool")) == Part(
        deltas=[Content("So")], tokens=list(range(8)), infos=[], timings=Timings(predicted_n=8)
    )
    assert given.feed(event("_call>", 2)) is None
    part = given.feed(event('\n{"name": "f", "arguments": {', 3))
    assert part is not None
    assert part.tokens == [0, 1, 0, 1, 2]
    assert [type(delta) for delta in part.deltas] == [CallStarted, CallArguments]


def test_a_last_part_may_have_tokens_alone() -> None:
    given = reader()
    given.feed(event('<tool_call>\n{"name": "f", "arguments": {}}'))
    assert given.feed(event("\n</tool_call>", 2)) is None
    part, _ = given.finish(ended())
    assert part is not None
    assert (part.deltas, part.tokens) == ([], [0, 1])
    assert reader().finish(ended())[0] is None


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (list("<think>ab</think>\n\nc"), 19),
        (["<think>", "ab", "</think>", "\n\n", "cdef"], 19),
        (["<think>ab", "</think>\n\ncd"], 9),
        (["<think>abcd", "efgh</think>ijkl"], 15),
        (["<think>ab"], 9),
        (["<think>ab", "</think>"], 17),
        (["\n\n", "cd"], 0),
        (["ab"], 0),
        (["<think>ab", '\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'], 9),
    ],
)
def test_reasoning_tokens(pieces: list[str], expected: int) -> None:
    assert read(reader(), pieces)[1].reasoning_tokens == expected


@pytest.mark.parametrize(
    ("text", "reason", "ending"),
    [
        ("x", FinishReason.EOS, "stop"),
        ("x", FinishReason.WORD, "stop"),
        ("x", FinishReason.LIMIT, "length"),
        (OUTPUT, FinishReason.EOS, "tool_calls"),
        (OUTPUT, FinishReason.WORD, "tool_calls"),
        (OUTPUT, FinishReason.LIMIT, "length"),
        ("<tool_call>\nno", FinishReason.EOS, "stop"),
        (OUTPUT[: OUTPUT.index("}}")], FinishReason.WORD, "stop"),
        (OUTPUT[: OUTPUT.index("}}") + 1], FinishReason.WORD, "tool_calls"),
        (OUTPUT[: OUTPUT.index('"a"')], FinishReason.WORD, "stop"),
        (f"{OUTPUT}{OUTPUT[OUTPUT.index('<tool_call>') :][:-20]}", FinishReason.WORD, "stop"),
    ],
)
def test_ending(text: str, reason: FinishReason, ending: str) -> None:
    given = reader()
    given.feed(event(text))
    assert given.finish(ended(reason=reason))[1].ending == ending


@pytest.mark.parametrize("reason", [FinishReason.WORD, FinishReason.LIMIT])
def test_where_a_call_is_cut_in_two(reason: FinishReason) -> None:
    begun, whole = OUTPUT.index('{"a"') + 1, OUTPUT.index("}}") + 1
    for end in range(len(OUTPUT) + 1):
        given = reader()
        given.feed(event(OUTPUT[:end]))
        assert given.finish(ended(reason=reason))[1].cut_call is (begun <= end < whole)


@pytest.mark.parametrize("head", ["<tool", "<tool_call>", '<tool_call>\n{"na', '<tool_call>\n{"name": "f", "arg'])
def test_half_of_a_calls_head_is_no_content_where_a_limit_cut_it(head: str) -> None:
    for before, content in (("So", "So"), (OUTPUT, "So <b>")):
        text = f"{before}\n{head}"
        parts, end = read(reader(), [text[:-2]], text[-2:], FinishReason.LIMIT)
        assert (joined(parts)["content"], joined(parts)["tokens"], end.ending) == (content, len(text), "length")
        assert joined(read(reader(), [text])[0])["content"].endswith(head)


@pytest.mark.parametrize("head", ["<tool_call>", '<tool_call>\n{"na', '<tool_call>\n{"name": "f", "arg'])
def test_nor_is_it_content_where_a_stop_string_cut_it(head: str) -> None:
    for before, content, ending in (("So", "So", "stop"), (OUTPUT, "So <b>", "tool_calls")):
        given = reader(stop=("END",))
        parts = [given.feed(event(f"{before}\n{head}"))]
        last, end = given.finish(ended(reason=FinishReason.WORD, word="END"))
        assert joined([part for part in (*parts, last) if part])["content"] == content
        assert (end.ending, end.stop_string) == (ending, "END")


@pytest.mark.parametrize("text", ["So", "a <", "a <tool", "<", "<think", "<tool_cat>"])
def test_what_stands_before_a_stop_string_is_told_to_the_letter(text: str) -> None:
    given = reader(stop=("END",))
    parts = [given.feed(event(text)), given.finish(ended(reason=FinishReason.WORD, word="END"))[0]]
    assert joined([part for part in parts if part])["content"] == text


def _dsml(call: tuple[str, Mapping[str, Any]]) -> str:
    name, arguments = call
    parts = [
        f'<D:parameter name="{key}" string="{str(isinstance(value, str)).lower()}">{value}</D:parameter>\n'
        for key, value in arguments.items()
    ]
    return dsml(f'<D:function_calls>\n<D:invoke name="{name}">\n{"".join(parts)}</D:invoke>\n</D:function_calls>')


@pytest.mark.parametrize(
    ("family", "mark"),
    [
        ("qwen3-coder", "</function>"),
        ("seed-oss", "</function>"),
        ("glm", "</tool_call>"),
        ("minimax", "</invoke>"),
        ("commas", ")"),
        ("dsml", dsml("</D:invoke>")),
    ],
)
@pytest.mark.parametrize("reason", [FinishReason.WORD, FinishReason.LIMIT])
def test_a_call_that_is_cut_between_two_arguments(family: str, mark: str, reason: FinishReason) -> None:
    """Where another argument may come it is not whole; it is once its end has begun, or was the stop string."""
    syntax: ToolSyntax = Dsml() if family == "dsml" else SYNTAXES[family]
    values = {"city": "Ulm", "days": 2}
    text = _dsml(("get_weather", values)) if family == "dsml" else canonical(syntax, [("get_weather", values)])
    closing = text.rindex(mark)

    def cut(end: int, word: str) -> tuple[str, str]:
        given = TurnReader(parser_of(syntax))
        parts = [part for part in (given.feed(event(text[:end])),) if part is not None]
        last, said = given.finish(ended(reason=reason, word=word if reason is FinishReason.WORD else ""))
        return joined([*parts, last] if last else parts)["calls"][0][2], said.ending

    for end in range(text.index("Ulm"), len(text) + 1):
        arguments, ending = cut(end, "END")
        whole = arguments.endswith("}")
        assert (json.loads(arguments) == values and end > closing) if whole else end < closing + 3, text[:end]
        assert ending == ("length" if reason is FinishReason.LIMIT else "tool_calls" if whole else "stop")
    assert (cut(closing, f"\n{mark}")[1] == "tool_calls") is (reason is FinishReason.WORD)


def test_only_the_clients_stop_strings_are_told() -> None:
    for word, told in (("END", "END"), ("<|call|>", ""), ("", "")):
        assert reader(stop=("END",)).finish(ended(reason=FinishReason.WORD, word=word))[1].stop_string == told
