"""Each output is the same thing, whichever pieces it arrives in."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.formats.harmony import Harmony
from tests.chat.formats_known.cases import CASES, Case
from tests.chat.formats_known.reading import Read, read

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
def test_what_it_is(case: Case) -> None:
    found = read(case.form, [case.text])

    assert found.parsed == list(case.calls)
    assert (found.content.strip(), found.reasoning) == (case.content, case.reasoning)


@by_name
def test_every_split(case: Case) -> None:
    whole = read(case.form, [case.text])

    assert read(case.form, case.text) == whole
    for at in range(1, len(case.text)):
        assert read(case.form, [case.text[:at], case.text[at:]]) == whole


@by_name
def test_what_was_said_stays(case: Case) -> None:
    """What a beginning of the output has shown is a beginning of what all of it shows."""
    whole = read(case.form, [case.text])

    for at in range(len(case.text)):
        part = read(case.form, [case.text[:at]], finish=False)
        assert whole.content.startswith(part.content)
        assert whole.reasoning.startswith(part.reasoning)
        assert [call.name for call in part.calls] == [call.name for call in whole.calls[: len(part.calls)]]
        for early, late in zip(part.calls, whole.calls, strict=False):
            assert late.id == early.id
            assert late.arguments.startswith(early.arguments)


@by_name
@settings(max_examples=10)
@given(data=st.data())
def test_cut_anywhere_is_no_failure(case: Case, data: st.DataObject) -> None:
    """The output may end early, and the calls that were whole by then are there."""
    whole = read(case.form, [case.text])
    end = data.draw(st.integers(0, len(case.text)))

    part = read(case.form, [case.text[:end]])

    assert part == read(case.form, case.text[:end])
    assert [call.name for call in part.calls] == [call.name for call in whole.calls[: len(part.calls)]]
    assert part.calls[:-1] == whole.calls[: max(len(part.calls) - 1, 0)]


@by_name
def test_a_limit_leaves_no_half_markup(case: Case) -> None:
    """Wherever a limit cuts the output: what is shown is a beginning of what all of it would show."""
    whole = read(case.form, [case.text])

    for end in range(len(case.text)):
        if isinstance(case.form, Harmony) and re.search(r"<[^>]*\Z", case.text[:end]):
            continue  # its marks are control tokens, which come as a whole
        part = read(case.form, case.text[:end], at_limit=True)
        assert part == read(case.form, [case.text[:end]], at_limit=True)
        assert whole.content.strip().startswith(part.content.strip()), case.text[:end]
        assert whole.reasoning.startswith(part.reasoning.rstrip()), case.text[:end]
        assert [call.name for call in part.calls] == [call.name for call in whole.calls[: len(part.calls)]]
        for early, late in zip(part.calls, whole.calls, strict=False):
            assert late.arguments.startswith(early.arguments), case.text[:end]


@by_name
def test_without_tools_nothing_is_a_call(case: Case) -> None:
    found = read(case.form, [case.text], tools={})

    assert not found.calls
    assert found.reasoning == case.reasoning
    if case.calls:
        assert case.calls[0][0] in found.content


@pytest.mark.parametrize(
    ("name", "part", "arguments"),
    [
        ("harmony call in the role", '{"city": "Zür', '{"city": "Zür'),
        ("functionary calls", '{"city": "Ber', '{"city": "Ber'),
        ("gemma 4 call", 'city:<|"|>Zürich "x', '{"city": "Zürich \\"x'),
        ("lfm2 calls", "days=3, exact=True, unit='C', where={'lat': -1.5, 'tags': ['a', 'b", '"tags": ["a", "b'),
        ("kimi calls", '{"city": "Ber', '{"city": "Ber'),
        ("dsml calls", 'Zürich "x', '{"city": "Zürich \\"x'),
        ("chatglm4", '{"city": "Ber', '{"city": "Ber'),
    ],
)
def test_arguments_are_shown_as_they_grow(name: str, part: str, arguments: str) -> None:
    case = next(case for case in CASES if case.name == name)
    end = case.text.index(part) + len(part)

    found = read(case.form, [case.text[:end]], finish=False)

    assert found.calls[0].arguments.endswith(arguments)


def test_kimis_ids_are_the_models() -> None:
    case = next(case for case in CASES if case.name == "kimi calls")

    assert [call.id for call in read(case.form, [case.text]).calls] == ["functions.get_weather:0", "functions.get:1"]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("gemma 4 call", "<tool_call|>"),
        ("lfm2 calls", "]<|tool_call_end|>"),
        ("kimi calls", "<|tool_call_end|><|tool_calls_section_end|>"),
        ("dsml calls", "</\uff5cDSML\uff5cinvoke>\n</\uff5cDSML\uff5ctool_calls>"),
    ],
)
def test_end_marks_may_be_missing_at_the_end(name: str, end: str) -> None:
    case = next(case for case in CASES if case.name == name)
    whole = read(case.form, [case.text])
    bare = case.text.removesuffix(end)
    assert bare != case.text

    for cut in range(len(bare), len(case.text)):
        assert read(case.form, [case.text[:cut]]) == whole, case.text[:cut]


def test_reasoning_that_the_prompt_opened() -> None:
    case = next(case for case in CASES if case.name == "harmony answer")
    rest = case.text.removeprefix("<|channel|>analysis<|message|>")

    assert read(case.form, rest, reasoning_open=True) == Read(case.content, case.reasoning)
    assert read(case.form, case.text, reasoning_open=True) == Read(case.content, case.reasoning)
