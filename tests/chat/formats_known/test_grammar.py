"""Grammars take what the families write, and what they make is read as calls that the tools' schemas allow."""

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.formats.base import ChatFormat, Tool, ToolSyntax
from llamabox.chat.formats.dsml import Dsml
from llamabox.chat.formats.gemma4 import Gemma4
from llamabox.chat.formats.harmony import Harmony
from llamabox.chat.formats.lfm2 import Lfm2
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.grammar.lark import Lark
from llamabox.chat.grammar.turn import turn_grammar
from tests.chat import guidance
from tests.chat.formats_known.cases import CASES, Case
from tests.chat.formats_known.reading import ANY, CLOCK, TOOLS, WEATHER, read

CLOSING = ("'", '<|"|>', "</|DSML|parameter>", "</|DSML|invoke>\n</|DSML|tool_calls>")
CANONICAL = [case for case in CASES if case.canonical]
by_name = pytest.mark.parametrize("case", CANONICAL, ids=lambda case: case.name)

RICH = Tool(
    name="rich",
    parameters={
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                },
                "required": ["name", "next"],
                "additionalProperties": False,
            }
        },
        "type": "object",
        "properties": {
            "maybe": {"type": ["string", "null"]},
            "node": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            "level": {"enum": [1, "two", None, True]},
            "fixed": {"const": "it's"},
            "pair": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
            "free": {},
            "flag": {"allOf": [{"type": "boolean"}]},
            "map": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["fixed", "pair", "flag"],
        "additionalProperties": False,
    },
)


def whole(case: Case) -> ChatFormat:
    return case.form if hasattr(case.form, "answer") else StandardFormat(tools=case.form)


def grammar(case: Case, tools: Sequence[Tool], *, parallel: bool = True) -> str:
    lark = Lark()
    return lark.source(whole(case).calls(lark, tools, parallel=parallel))


def sample(source: str, seed: int) -> str:
    """Samples are ASCII, and so has the grammar to be."""
    return guidance.sample(source.replace("\uff5c", "|"), seed, closing=CLOSING).replace("|DSML|", "\uff5cDSML\uff5c")


@by_name
def test_takes_what_the_family_writes(case: Case) -> None:
    source = grammar(case, [*TOOLS.values()], parallel=case.parallel)

    assert guidance.accepts(source, case.text), case.text[guidance.accepted(source, case.text) :]


@by_name
def test_one_call_unless_parallel(case: Case) -> None:
    source = grammar(case, [*TOOLS.values()], parallel=False)

    assert guidance.accepts(source, case.text) == (len(case.calls) == 1)


@by_name
def test_refuses_other_tools_and_broken_arguments(case: Case) -> None:
    source = grammar(case, [ANY, CLOCK])

    assert not guidance.accepts(source, case.text.replace("get_weather", "get_whether"))
    if case.calls[0][0] == "get_weather":
        assert not guidance.accepts(source, case.text)
        strict = grammar(case, [WEATHER, CLOCK])
        assert not guidance.accepts(strict, case.text.replace("city", "town"))
        assert not guidance.accepts(strict, case.text[:-4])


@by_name
@pytest.mark.parametrize("tool", [WEATHER, CLOCK, RICH], ids=lambda tool: tool.name)
def test_what_it_makes_is_a_call_of_the_schema(case: Case, tool: Tool) -> None:
    source = grammar(case, [tool])

    for seed in range(6):
        text = sample(source, seed)
        found = read(case.form, text, tools={tool.name: tool})

        assert found.calls, text
        assert not found.content
        for call in found.calls:
            assert call.name == tool.name
            jsonschema.validate(json.loads(call.arguments), dict(tool.parameters))


@by_name
def test_any_arguments_without_a_schema(case: Case) -> None:
    source = grammar(case, [ANY])

    for seed in range(4):
        text = sample(source, seed)
        found = read(case.form, text)
        assert found.calls, text
        assert not found.content
        assert all(isinstance(json.loads(call.arguments), dict) for call in found.calls), text


def test_an_answer_is_what_is_read_as_content() -> None:
    for case in CANONICAL:
        lark = Lark()
        form = whole(case)
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        source = lark.source(form.answer(lark, lark.json(schema)))
        text = guidance.sample(source, 1)

        found = read(form, text)
        jsonschema.validate(json.loads(found.content), schema)
        assert not found.calls


def test_harmony_with_control_tokens() -> None:
    special = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>")
    lark = Lark(guidance.special_ids(special))
    form = Harmony()
    source = lark.source(form.calls(lark, [*TOOLS.values()], parallel=True))

    for case in CANONICAL:
        if isinstance(case.form, Harmony):
            assert guidance.accepts(source, case.text, special)
            as_text = guidance.tokens(case.text)
            taken = guidance.matcher(source, special).validate_tokens(as_text)
            assert taken < len(as_text), "the text of a control token is not the token"
    assert guidance.accepts(source, "<|start|>assistant to=functions.get<|channel|>commentary<|message|>{}", special)
    text = guidance.sample(source, 3, special)
    assert read(form, text).calls


def test_harmony_behind_its_reasoning() -> None:
    """What wakes the grammar is the end of the reasoning, or what begins a call: both fit."""
    form = Harmony()
    lark = Lark()
    calls = form.calls(lark, [CLOCK], parallel=False)
    source = lark.source(calls)
    assert form.reasoning is not None

    behind = " to=functions.get<|channel|>commentary json<|message|>{}"
    assert guidance.accepts(source, behind)
    found = read(form, [form.reasoning.start, "a", form.reasoning.end, behind])
    assert (found.reasoning, found.parsed) == ("a", [("get", {})])
    for start in form.call_starts:
        assert guidance.accepted(source, start) == len(start)


NODES = '<|tool_call>call:rich{{fixed:<|"|>it\'s<|"|>,flag:true,node:{},pair:[1,2]}}<tool_call|>'


@pytest.mark.parametrize("depth", [0, 1, 9])
def test_schemas_that_contain_themselves(depth: int) -> None:
    lark = Lark()
    source = lark.source(Gemma4().grammar(lark, [RICH], parallel=False))
    node, broken = "null", "1"
    for _ in range(depth):
        node, broken = (f'{{name:<|"|>a<|"|>,next:{inner}}}' for inner in (node, broken))

    assert guidance.accepts(source, NODES.format(node))
    assert not guidance.accepts(source, NODES.format(broken))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Nothing"},
        {"$ref": "#/$defs/A"},
        {"$ref": "elsewhere"},
        {"anyOf": [{"$ref": "#/$defs/B"}, {"$ref": "#/$defs/A"}]},
        {"allOf": [{"$ref": "#/$defs/C"}]},
    ],
)
@pytest.mark.parametrize("syntax", [Gemma4(), Lfm2(), Dsml()], ids=lambda syntax: type(syntax).__name__)
def test_references_that_lead_nowhere_end(syntax: ToolSyntax, schema: dict[str, Any]) -> None:
    defs = {
        "A": {"$ref": "#/$defs/A"},
        "B": {"anyOf": [{"$ref": "#/$defs/B"}, {"$ref": "#/$defs/B"}]},
        "C": {"allOf": [{"$ref": "#/$defs/C"}, {"type": "string"}]},
    }
    lark = Lark()
    tool = Tool(name="f", parameters={"$defs": defs, "properties": {"a": schema}})

    assert "f" in lark.source(syntax.grammar(lark, [tool], parallel=True))


def test_gemma_with_control_tokens() -> None:
    """Strings end at the control token, whatever text is in them."""
    special = Gemma4().markers
    lark = Lark(guidance.special_ids(special))
    source = lark.source(Gemma4().grammar(lark, [WEATHER], parallel=True))
    case = next(case for case in CANONICAL if case.name == "gemma 4 call")

    assert guidance.accepts(source, case.text, special)
    text = guidance.sample(source, 5, special)
    assert read(Gemma4(), text).calls


@pytest.mark.parametrize("choice", [ToolChoice.AUTO, ToolChoice.REQUIRED])
def test_harmony_in_the_grammar_of_a_turn(choice: ToolChoice) -> None:
    ask = ChatAsk(messages=[], tools=(CLOCK,), choice=choice)
    call = "<|channel|>commentary to=functions.get <|constrain|>json<|message|>{}"

    spec = turn_grammar(ask, Harmony(), {})

    assert spec is not None
    assert bool(spec.triggers) == (choice is ToolChoice.AUTO)
    assert guidance.accepts(spec.source, call)
    assert guidance.accepts(spec.source, " to=functions.get<|channel|>commentary<|message|>{}")
    if choice is ToolChoice.REQUIRED:
        reasoning = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        assert guidance.accepts(spec.source, reasoning + call)
        assert not guidance.accepts(spec.source, "<|channel|>final<|message|>Hi")
