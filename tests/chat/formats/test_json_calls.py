"""What models make of JSON calls, and what is none."""

import json
from typing import Any

import attrs
import pytest

from llamabox.chat.formats.json_calls import JsonCalls
from tests.chat.formats.reading import every_split, read
from tests.chat.formats.shapes import COMMAND_R7B, HERMES, LLAMA3, NEMO, NESTED

GET = ("get", {"n": 3})


@pytest.mark.parametrize(
    "inner",
    [
        '{"arguments": {"n": 3}, "name": "get"}',
        '{ "name" : "get" , "arguments" : {"n": 3} }',
        '{"name": "get", "arguments": {"n": 3}, "because": {"arguments": {"n": 4}}}',
        '{"because": [1, "}", {}], "name": "get", "arguments": {"n": 3}}',
        '{"name": "get", "arguments": "{\\"n\\": 3}"}',
        '{"arguments": "{\\"n\\": 3}", "name": "get"}',
        '{"name": "get", "arguments": " \\n{\\u0022n\\u0022: 3}"}',
        '{"name": "get", "parameters": {"n": 3}}',
        '{"name": "get", "arguments": {"n": 3}, "arguments": {"n": 5}}',
        '{"arguments": {"n": 3}, "arguments": {"n": 5}, "name": "get"}',
        '{"name": "get", "arguments": {"n": 3}}}',
        '{"name": "get", "arguments": {"n": 3}',
        '[{"name": "get", "arguments": {"n": 3}}]',
        '{"name": "g\\u0065t", "arguments": {"n": 3},}',
    ],
)
def test_ways_to_write_one_call(inner: str) -> None:
    for pieces in every_split(f"<tool_call>{inner}</tool_call>"):
        result = read(HERMES, pieces)
        assert result.values == [GET]
        assert result.content == ""


@pytest.mark.parametrize(
    "arguments", ['"arguments": {}', '"arguments": null', '"arguments": ""', '"arguments": []', ""]
)
def test_no_arguments(arguments: str) -> None:
    text = f'<tool_call>{{"name": "get_time"{", " if arguments else ""}{arguments}}}</tool_call>'
    for pieces in every_split(text):
        assert read(HERMES, pieces).calls == [("id0", "get_time", "{}")]


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (HERMES, '<tool_call>[{"name": "get", "arguments": {"n": 3}}, {"name": "get_time"}]</tool_call>'),
        (HERMES, '<tool_call>{"name": "get", "arguments": {"n": 3}}\n{"name": "get_time"}</tool_call>'),
        (NEMO, '[TOOL_CALLS]{"name": "get", "arguments": {"n": 3}}, {"name": "get_time"}'),
        (NEMO, '[TOOL_CALLS] [{"name": "get", "arguments": {"n": 3}} {"name": "get_time"}'),
        (LLAMA3, '[{"name": "get", "parameters": {"n": 3}}, {"name": "get_time", "parameters": {}}]'),
        (LLAMA3, '{"name": "get", "parameters": {"n": 3}}\n{"name": "get_time", "parameters": {}}'),
        (LLAMA3, '{"type": "function", "name": "get", "parameters": {"n": 3}}; {"name": "get_time"}'),
        (NESTED, '<calls>[{"name": "get", "arguments": {"n": 3}}, {"function": {"name": "get_time"}}]</calls>'),
    ],
)
def test_lists_and_single_calls_for_each_other(syntax: JsonCalls, text: str) -> None:
    for pieces in every_split(text):
        result = read(syntax, pieces)
        assert result.values == [GET, ("get_time", {})], pieces
        assert result.content == ""


def test_an_id_counts_only_before_the_call_begins() -> None:
    before = '<|START_ACTION|>[{"tool_call_id": "7", "tool_name": "get", "parameters": {}}]<|END_ACTION|>'
    number = '<|START_ACTION|>[{"tool_call_id": 7, "tool_name": "get", "parameters": {}}]<|END_ACTION|>'
    after = '[TOOL_CALLS][{"name": "get", "arguments": {}, "id": "abcdefghi"}]'
    between = '[TOOL_CALLS][{"name": "get", "id": "abcdefghi", "arguments": {}}]'
    assert [read(COMMAND_R7B, list(text)).calls[0][0] for text in (before, number)] == ["7", "7"]
    assert [read(NEMO, list(text)).calls[0][0] for text in (after, between)] == ["id0", "abcdefghi"]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "age": 36}',
        ' \n{"name": "Ada"}',
        '{"answer": {"name": "get", "parameters": {}}}',
        '{"name": 3}',
        '{"name": "get", "parameters": [1]}',
        '{"name": "get", "parameters": "Ulm"}',
        '{"name": "get", "parameters": 5}',
        '{"parameters": {"n": 3}}',
        '{name: "get"}',
        "{}",
        "[]",
        "[1] and [2]",
        "{",
        '{"name": "get"',
        '{"name": "get", "parameters": ',
        '["name", "get"]',
        '{"name" "get"}',
        '{"\\x": 1}',
    ],
)
def test_json_that_is_no_call_is_content(text: str) -> None:
    for pieces in every_split(text):
        result = read(LLAMA3, pieces)
        assert (result.content, result.calls) == (text, []), pieces
    marked = f"<tool_call>{text}</tool_call> and on"
    result = read(attrs.evolve(HERMES, arguments_key="parameters"), list(marked))
    assert (result.content, result.calls) == (marked, [])


BARE = '{"name": "get", "%s": {"n": 3}}'
bare = pytest.mark.parametrize("syntax", [LLAMA3, HERMES], ids=["never marked", "marks forgotten"])


@pytest.mark.parametrize(
    ("syntax", "before"),
    [(LLAMA3, before) for before in ("", "[", "\n", f"{BARE}\n")]
    + [(HERMES, before) for before in ("", "```json\n", "\n", f"{BARE}\n")],
)
def test_a_limit_in_a_call_without_marks_leaves_no_half_of_it(syntax: JsonCalls, before: str) -> None:
    before, call = before.replace("%s", syntax.arguments_key), BARE % syntax.arguments_key
    n_before = before.count("name")
    for end in range(1, len(call)):
        for text in (before + call[:end], *([f"{before}{{{call[:end]}"] if '"get"' in call[:end] else ())):
            result = read(syntax, list(text), at_limit=True)
            assert result == read(syntax, [text], at_limit=True)
            assert result.content == "", text
            assert len(result.calls) == n_before + (end > call.index('{"n"')), text


@bare
@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[1, ",
        '{"name": "Ada',
        '{"name": "get_up',
        '{"names',
        '{"answer": "get',
        '{"parameters": {"name": "get", "n',
        '{"arguments": {"n": 3',
        '{"type": "function", "na',
        '{"name": ["get"',
        '```json\n{"name": "Ada',
        "```json\n",
        '{"name": "get"} {"a',
    ],
)
def test_a_limit_leaves_json_that_is_no_call(syntax: JsonCalls, text: str) -> None:
    """What is not just as the model was shown calls is the answer's text until it names a tool."""
    shown = text.removeprefix('{"name": "get"} ')
    for pieces in ([text], list(text)):
        result = read(syntax, pieces, at_limit=True)
        assert (result.content, len(result.calls)) == (shown, len(text) > len(shown))


@bare
def test_before_a_stop_string_json_is_no_call_until_it_names_a_tool(syntax: JsonCalls) -> None:
    """What stands there is told to the letter, be it ever so short."""
    call = BARE % syntax.arguments_key
    named = call.index('"get"') + len('"get"')
    for end in range(1, len(call)):
        for before in ("", " "):
            result = read(syntax, list(before + call[:end]), stop_string="END")
            assert result.content == (before + call[:end] if end < named else ""), call[:end]


def test_a_json_answer_is_streamed_once_it_is_no_call() -> None:
    result = read(LLAMA3, ['{"answer": "a long'])
    assert result.content == '{"answer": "a long'


def test_a_mention_of_a_mark_does_not_hide_a_later_call() -> None:
    text = 'I use <tool_call> to call:\n<tool_call>{"name": "get", "arguments": {"n": 3}}</tool_call>'
    for pieces in every_split(text):
        result = read(HERMES, pieces)
        assert (result.content, result.values) == ("I use <tool_call> to call:", [GET])


def test_deep_nesting_is_no_trouble() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    call = '<tool_call>{"name": "get", "arguments": {"n": %s}}</tool_call>'
    assert read(HERMES, [call % deep]).calls == [("id0", "get", f'{{"n": {deep}}}')]
    wrapped = '{"function": ' * 5000 + "1" + "}" * 5000
    assert read(NESTED, [f"<calls>[{wrapped}]</calls>"]).content == f"<calls>[{wrapped}]</calls>"
    name = f'<tool_call>{{"name": {deep}}}</tool_call>'
    assert read(HERMES, [name]).content == name


def test_truncated_arguments_stay() -> None:
    whole = json.dumps({"n": 'a "quoted" word \\ and'})
    for end in range(1, len(whole)):
        result = read(HERMES, list(f'<tool_call>{{"name": "get", "arguments": {whole[:end]}'))
        assert len(result.calls) == 1
        # A backslash waits for what it escapes.
        assert result.calls[0][2] in (whole[:end], whole[: end - 1])
        assert result.content == ""


def values(syntax: JsonCalls, text: str) -> list[tuple[str, Any]]:
    return read(syntax, [text]).values


def test_arguments_as_text_of_every_character() -> None:
    arguments = {"n": 'ü€𝄞 "\\/\b\f\n\r\t\u0001 \ufffd'}
    for ascii_only in (True, False):
        inner = json.dumps(json.dumps(arguments, ensure_ascii=ascii_only), ensure_ascii=ascii_only)
        for pieces in every_split(f'<tool_call>{{"name": "get", "arguments": {inner}}}</tool_call>'):
            assert read(HERMES, pieces).values == [("get", arguments)]
