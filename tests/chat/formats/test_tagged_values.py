"""Arguments between marks: which text becomes which JSON."""

import json
from typing import Any

import pytest

from llamabox.chat.formats.base import Tool
from llamabox.chat.formats.schemas import fixed_values, json_types, object_schema
from llamabox.chat.grammar.lark import Lark
from tests.chat import guidance
from tests.chat.counted import Counted
from tests.chat.formats.reading import every_split, read
from tests.chat.formats.shapes import DEVSTRAL, FUNCTIONARY, GLM, QWEN3_CODER, SEED_OSS, canonical

DEFINITIONS = {"word": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}, "again": {"$ref": "#/$defs/word"}}


def value(schema: Any, text: str) -> Any:
    tool = Tool(name="put", parameters={"type": "object", "properties": {"v": schema}, "$defs": DEFINITIONS})
    output = f"<tool_call>\n<function=put>\n<parameter=v>\n{text}\n</parameter>\n</function>\n</tool_call>"
    whole = read(QWEN3_CODER, [output], {"put": tool})
    assert read(QWEN3_CODER, list(output), {"put": tool}) == whole
    assert whole.content == ""
    ((_, arguments),) = whole.values
    return arguments["v"]


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "", ""),
        ({"type": "string"}, "\n a\n\n b \n", "\n a\n\n b \n"),
        ({"type": "string"}, '"quoted" \\ \t\u0001', '"quoted" \\ \t\u0001'),
        ({"type": "string"}, "</function> < </param", "</function> < </param"),
        ({"type": "string", "enum": ["5"]}, "5", "5"),
        ({"enum": ["5", "6"]}, "5", "5"),
        ({"enum": [5, "6"]}, "5", 5),
        ({"const": "5"}, "5", "5"),
        ({"$ref": "#/$defs/word"}, "5", "5"),
        ({"$ref": "#/$defs/again"}, "5", "5"),
        ({"$ref": "#/$defs/loop"}, "5", 5),
        ({"$ref": "#/$defs/none"}, "x", "x"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "5", "5"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
        ({"oneOf": [{"$ref": "#/$defs/word"}, {"type": "integer"}]}, "5", 5),
        ({"allOf": [{"$ref": "#/$defs/word"}]}, "5", "5"),
        ({"type": ["string", "null"]}, "nul", "nul"),
        ({"type": ["string", "number"]}, "5", 5),
        ({"type": "integer"}, " 5 ", 5),
        ({"type": "integer"}, "five", "five"),
        ({"type": "number"}, "NaN", "NaN"),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "True", True),
        ({"type": "null"}, "None", None),
        ({"type": ["string", "boolean"]}, "True", "True"),
        ({"type": "array"}, '["</parameter>", 1]', ["</parameter>", 1]),
        ({"type": "object"}, '{\n "a": {}\n}', {"a": {}}),
        ({"type": "object"}, "{'a': 1}", "{'a': 1}"),
        ({"type": "object"}, "none", "none"),
        ({}, "5", 5),
        ({}, '"5"', '"5"'),
        ({}, "five", "five"),
        ({}, '{"a": 1}', {"a": 1}),
        (True, "five", "five"),
        ({"type": "strange"}, "five", "five"),
    ],
)
def test_types(schema: Any, text: str, expected: Any) -> None:
    found = value(schema, text)
    assert found == expected
    assert type(found) is type(expected)


def test_the_type_of_a_parameter_that_the_schema_does_not_name() -> None:
    output = "<tool_call>get_time\n<arg_key> zone </arg_key>\n<arg_value>UTC</arg_value>\n</tool_call>"
    assert read(GLM, list(output)).values == [("get_time", {"zone": "UTC"})]


def test_newlines_of_the_marks_may_be_missing() -> None:
    output = "<tool_call><function=get_weather><parameter=city>Ulm</parameter></function></tool_call>"
    for pieces in every_split(output):
        assert read(QWEN3_CODER, pieces).values == [("get_weather", {"city": "Ulm"})]


def test_a_value_keeps_the_newlines_that_no_mark_has() -> None:
    output = "<seed:tool_call><function=get_weather><parameter=city>\nUlm\n</parameter></function></seed:tool_call>"
    assert read(SEED_OSS, [output]).values == [("get_weather", {"city": "\nUlm\n"})]


@pytest.mark.parametrize("end", ["", "</function>", "</tool_call>", "\n</func"])
def test_a_whole_call_without_its_end(end: str) -> None:
    output = f"<tool_call>\n<function=get_weather>\n<parameter=city>\nUlm\n</parameter>\n{end}"
    for pieces in every_split(output):
        result = read(QWEN3_CODER, pieces)
        assert (result.values, result.content) == ([("get_weather", {"city": "Ulm"})], "")


def test_text_instead_of_the_end_leaves_the_arguments_open() -> None:
    output = "<tool_call>\n<function=get_weather>\n<parameter=city>\nUlm\n</parameter>\nand so on"
    for pieces in every_split(output):
        result = read(QWEN3_CODER, pieces)
        assert result.calls == [("id0", "get_weather", '{"city": "Ulm"')]
        assert result.content == "and so on"


@pytest.mark.parametrize(
    "output",
    [
        "<tool_call>\n<function=get_weather>",
        "<tool_call>\n<function=get_weather>\n<par",
        "<tool_call>\n<function=get_weatherx>\n<parameter=city>\nUlm",
        "<tool_call>\nno function",
        "<tool_call>",
        "<tool_call>\n<function=get_weather>\nUlm</function>\n</tool_call>",
    ],
)
def test_what_is_no_call_is_content(output: str) -> None:
    for pieces in every_split(output):
        result = read(QWEN3_CODER, pieces)
        assert (result.content, result.calls) == (output, [])


@pytest.mark.parametrize("output", ["<function=get_time>", "<function=get_time>[1]</function>", "<function=get_ti"])
def test_a_name_alone_is_no_call(output: str) -> None:
    for pieces in every_split(output):
        result = read(FUNCTIONARY, pieces)
        assert (result.content, result.calls) == (output, [])


def test_the_end_instead_of_arguments_means_none() -> None:
    assert read(FUNCTIONARY, list("<function=get_time></function>")).calls == [("id0", "get_time", "{}")]


def test_arguments_behind_a_name_are_streamed() -> None:
    result = read(DEVSTRAL, list('[TOOL_CALLS]get[ARGS]{"n": [1, 2'))
    assert result.calls == [("id0", "get", '{"n": [1, 2')]


def test_types_of_schemas_without_end() -> None:
    endless: dict[str, Any] = {"anyOf": [{"type": "string"}]}
    endless["anyOf"].append(endless)
    assert "string" in json_types(endless)
    assert json.dumps(object_schema(Tool(name="f"))) == '{"type": "object"}'


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, ["a", "b", None]),
        ({"oneOf": [{"const": 1}, {"const": "one"}, {"type": "boolean"}]}, [1, "one", True, False]),
        ({"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}], "$defs": {"x": {"enum": ["a"]}}}, ["a"]),
        ({"anyOf": [{"enum": ["a"]}, {"type": "string"}]}, None),
        ({"anyOf": [{"enum": ["a"]}, True]}, None),
        ({"anyOf": [{"enum": ["a"]}, {"$ref": "#/$defs/none"}]}, None),
        ({"anyOf": []}, None),
        ({"anyOf": "null"}, None),
        ({"type": "null"}, None),
    ],
)
def test_values_that_are_listed(schema: Any, values: Any) -> None:
    assert fixed_values(schema) == values
    tool = Tool(name="put", parameters={"type": "object", "properties": {"v": schema}, "required": ["v"]})
    lark = Lark()
    source = lark.source(QWEN3_CODER.grammar(lark, [tool], parallel=False))
    assert guidance.accepts(source, canonical(QWEN3_CODER, [("put", {"v": "any text"})])) is (
        values is None and schema != {"type": "null"}
    )
    for value in values or ():
        text = canonical(QWEN3_CODER, [("put", {"v": value})])
        assert guidance.accepts(source, text)
        assert read(QWEN3_CODER, [text], {"put": tool}).values == [("put", {"v": value})]


@pytest.mark.parametrize("key", ["anyOf", "oneOf", "allOf"])
def test_references_that_meet_are_followed_once(key: str) -> None:
    many = Counted({key: [{"$ref": "#/$defs/many"}] * 9})
    json_types({"$ref": "#/$defs/many", "$defs": {"many": many}})
