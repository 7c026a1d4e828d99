"""The text of custom calls out of the arguments that the model wrote, however they arrive."""

import itertools
import json
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from api.custom.functions import arguments_of, as_function
from api.custom.texts import CustomTexts, TextReader
from api.tools import function_tool
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta
from llamabox.chat.grammar.turn import turn_grammar
from tests.chat.formats_known.reading import read as played
from tests.chat.test_tool_schemas import FORMS, form, sampled

TEXTS = st.text() | st.text(st.sampled_from('\\"/bnru\n\t{}:😀é0d8'))
CUTS = st.sets(st.integers(0, 80))
SPACES = st.text(" \n\t\r", max_size=2)


def pieces(text: str, cuts: set[int]) -> list[str]:
    inside = sorted(cut for cut in cuts if cut < len(text))
    return [text[a:b] for a, b in itertools.pairwise([0, *inside, len(text)])]


def read(given: Sequence[str]) -> list[str]:
    reader = TextReader()
    return [reader.feed(piece) for piece in given]


@hypothesis.settings(deadline=None, derandomize=True)
@hypothesis.given(TEXTS, CUTS, st.booleans(), st.lists(SPACES, min_size=5, max_size=5))
def test_any_text_in_any_pieces(text: str, cuts: set[int], escaped: bool, spaces: list[str]) -> None:
    value = json.dumps(text, ensure_ascii=escaped)
    arguments = "".join(part for pair in zip(spaces, ("{", '"input"', ":", value, "}"), strict=True) for part in pair)
    assert "".join(read(pieces(arguments, cuts))) == text


@hypothesis.settings(deadline=None, derandomize=True)
@hypothesis.given(TEXTS, st.data())
def test_arguments_that_are_cut_off_give_a_beginning(text: str, data: st.DataObject) -> None:
    arguments = json.dumps({"input": text})
    length = data.draw(st.integers(0, len(arguments)))
    assert text.startswith("".join(read(list(arguments[:length]))))


def test_text_comes_as_soon_as_it_is_sure() -> None:
    given = ['{"in', 'put": "', "a", "b\\", "n", "c\\u00", "e9\\ud83d", "\\ude00", 'd"', "}"]
    assert read(given) == ["", "", "a", "b", "\n", "c", "é", "😀", "d", ""]


@pytest.mark.parametrize(
    "arguments",
    ['{"patch": "a\\"b"}', "{}", '{"input": ["a", "b"]}', '{"input": 5}', '{"input": null}', '{"inputs": ""}', "[]"],
)
def test_arguments_of_another_form_are_given_as_they_are(arguments: str) -> None:
    for cut in range(len(arguments) + 1):
        assert "".join(read([arguments[:cut], arguments[cut:]])) == arguments


def test_what_stands_beside_the_text_is_left_out() -> None:
    assert "".join(read(list('{"input": "a", "why": "b"}'))) == "a"


def test_half_a_surrogate_pair_is_no_character() -> None:
    assert "".join(read(list('{"input": "a\\ud800b"}'))) == "a\ufffdb"


@hypothesis.settings(deadline=None, derandomize=True)
@hypothesis.given(TEXTS)
def test_what_a_call_had_it_has_in_the_history(text: str) -> None:
    arguments = arguments_of(text)
    assert json.loads(arguments) == {"input": text}
    assert "".join(read([arguments])) == text


def test_only_tools_of_these_names_take_text() -> None:
    texts = CustomTexts({"patch"})
    function: list[Delta] = [CallStarted(0, "a", "run"), CallArguments(0, '{"input": "x"}')]
    assert texts.turned(function) == function
    started, ended = CallStarted(1, "b", "patch"), CallArguments(1, '{"input": "x\\n"}')
    assert texts.turned([started, ended]) == [started, CallArguments(1, "x\n")]
    rest: list[Delta] = [Content("so"), CallStarted(2, "c", "run"), CallArguments(2, "{}")]
    assert texts.turned(rest) == rest


def test_a_delta_is_never_empty() -> None:
    texts = CustomTexts({"patch"})
    assert texts.turned([CallStarted(0, "a", "patch")]) == [CallStarted(0, "a", "patch")]
    for piece in ('{"input"', ': "', '"}'):
        assert texts.turned([CallArguments(0, piece)]) == []


@pytest.mark.parametrize("name", FORMS)
def test_whatever_the_format_a_call_has_its_text(name: str) -> None:
    """Also where the model writes the text between tags, or as a string of Python's."""
    tool = function_tool(as_function({"name": "patch"}, "tools[0]"), "tools[0]")
    ask = ChatAsk(messages=[], tools=(tool,), choice=ToolChoice.REQUIRED, parallel=False, enable_thinking=False)
    spec = turn_grammar(ask, form(name), {})
    assert spec is not None
    for seed in range(5):
        output = sampled(spec.source, seed)
        [call] = played(FORMS[name], output, tools={"patch": tool}).calls
        text = json.loads(call.arguments)["input"]
        assert "".join(read(list(call.arguments))) == text
