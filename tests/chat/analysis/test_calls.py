"""The three classes of call syntax, learned from small templates."""

import pytest

from llamabox.chat.analysis.description import CallSyntax
from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.formats.tagged_json import TaggedJson
from tests.chat.analysis.templates import describe, template

NONE = Marks("", "")
OBJECT = "{'name': name, 'arguments': arguments} | tojson"


def json_calls(**fields: object) -> JsonCalls:
    usual: dict[str, object] = {
        "section": NONE,
        "call": NONE,
        "separator": "",
        "is_list": False,
        "keys": ("name", "arguments"),
        "name_key": "name",
        "arguments_key": "arguments",
        "id_key": None,
    }
    return JsonCalls(**{**usual, **fields})  # type: ignore[arg-type]


EACH = "{%- for key, value in arguments | items -%}"
PARAMETER = EACH + "{{- '\\n<parameter=' + key + '>\\n' + value | string + '\\n</parameter>' -}}{%- endfor -%}"
PAIR = (
    EACH
    + "{{- '<k>' + key + '</k><v>' + value | string + '</v>' + (',' if not loop.last else '') -}}"
    + "{%- endfor -%}"
)
FENCED = (
    "{{- ('<|calls|>' if first else '\\n') + '<|call|>' + name + '\\n```json\\n' + arguments | tojson -}}"
    "{{- '\\n```<|/call|>' + ('<|/calls|>' if last else '') -}}"
)

LEARNED: dict[str, tuple[str, CallSyntax]] = {
    "json, marks a call": (
        "{{- ('' if first else '\\n') + '<call>\\n' + " + OBJECT + " + '\\n</call>' -}}",
        json_calls(call=Marks("<call>\n", "\n</call>"), separator="\n"),
    ),
    "json, marks a section": (
        "{{- ('<calls>\\n' if first else '\\n') + " + OBJECT + " + ('\\n</calls>' if last else '') -}}",
        json_calls(section=Marks("<calls>\n", "\n</calls>"), separator="\n"),
    ),
    "json, a list": (
        "{{- ('<calls>[' if first else ', ') + " + OBJECT + " + (']</calls>' if last else '') -}}",
        json_calls(section=Marks("<calls>", "</calls>"), separator=", ", is_list=True),
    ),
    "json, a list in lines": (
        "{{- ('<calls>[\\n  ' if first else ',\\n  ') + " + OBJECT + " + ('\\n]</calls>' if last else '') -}}",
        json_calls(
            section=Marks("<calls>", "</calls>"), call=Marks("\n  ", ""), separator=",", is_list=True, list_end="\n]"
        ),
    ),
    "json, a list behind a mark in brackets": (
        "{{- ('[CALLS][' if first else ', ') + " + OBJECT + " + (']' if last else '') -}}",
        json_calls(section=Marks("[CALLS]", ""), separator=", ", is_list=True),
    ),
    "json, white space between": (
        "{{- '\\n<c>' + " + OBJECT + " + '</c>' -}}",
        json_calls(call=Marks("\n<c>", "</c>")),
    ),
    "json, id before and other keys": (
        "{{- '<c>' + {'call_id': call.id, 'tool': name, 'with': arguments} | tojson + '</c>' -}}",
        json_calls(
            call=Marks("<c>", "</c>"),
            keys=("call_id", "tool", "with"),
            name_key="tool",
            arguments_key="with",
            id_key="call_id",
        ),
    ),
    "json, id last": (
        "{{- '<c>' + {'name': name, 'arguments': arguments, 'id': call.id} | tojson + '</c>' -}}",
        json_calls(call=Marks("<c>", "</c>"), keys=("name", "arguments", "id"), id_key="id"),
    ),
    "json, a counter for an id": (
        "{{- '<c>' + {'call_id': loop.index0 | string, 'name': name, 'arguments': arguments} | tojson + '</c>' -}}",
        json_calls(call=Marks("<c>", "</c>"), keys=("call_id", "name", "arguments"), id_key="call_id"),
    ),
    "json, wrapped": (
        "{{- '<c>' + {'type': 'function', 'function': {'name': name, 'arguments': arguments}} | tojson + '</c>' -}}",
        json_calls(
            call=Marks("<c>", "</c>"),
            keys=("type", "function", "name", "arguments"),
            constants={"type": "function"},
            wrapper_key="function",
        ),
    ),
    "json, the name is the key": (
        "{{- ('<c>[' if first else ', ') + {name: arguments} | tojson + (']</c>' if last else '') -}}",
        json_calls(
            section=Marks("<c>", "</c>"),
            separator=", ",
            is_list=True,
            keys=(),
            name_key="",
            arguments_key="",
            name_is_key=True,
        ),
    ),
    "json, no marks and one call": (
        "{{- raise_exception('one at a time') if not last else '' -}}{{- " + OBJECT + " -}}",
        json_calls(),
    ),
    "tagged json": (
        "{{- '<function=' + name + '>' + arguments | tojson + '</function>' -}}",
        TaggedJson(section=NONE, call_start="<function=", name_end=">", call_end="</function>", separator=""),
    ),
    "tagged json in a section": (
        FENCED,
        TaggedJson(
            section=Marks("<|calls|>", "<|/calls|>"),
            call_start="<|call|>",
            name_end="\n```json\n",
            call_end="\n```<|/call|>",
            separator="\n",
        ),
    ),
    "tagged json, id between": (
        "{{- '[CALLS]' + name + '[ID]' + call.id + '[ARGS]' + arguments | tojson -}}",
        TaggedJson(section=NONE, call_start="[CALLS]", name_end="[ARGS]", call_end="", separator="", id_start="[ID]"),
    ),
    "tagged arguments": (
        "{{- ('' if first else '\\n') + '<call>\\n<function=' + name + '>' -}}"
        + PARAMETER
        + "{{- '\\n</function>\\n</call>' -}}",
        TaggedArguments(
            section=NONE,
            call_start="<call>\n<function=",
            name_end=">",
            key_start="\n<parameter=",
            key_end=">\n",
            value_end="\n</parameter>",
            separator="",
            call_end="\n</function>\n</call>",
            between="\n",
        ),
    ),
    "tagged arguments in a section": (
        "{{- ('<calls>' if first else '') + '<invoke name=\"' + name + '\">' -}}"
        + PAIR
        + "{{- '</invoke>' + ('</calls>' if last else '') -}}",
        TaggedArguments(
            section=Marks("<calls>", "</calls>"),
            call_start='<invoke name="',
            name_end='">',
            key_start="<k>",
            key_end="</k><v>",
            value_end="</v>",
            separator=",",
            call_end="</invoke>",
        ),
    ),
    "tagged arguments right behind the name": (
        "{{- '<call>' + name -}}" + PAIR + "{{- '</call>' -}}",
        TaggedArguments(
            section=NONE,
            call_start="<call>",
            name_end="",
            key_start="<k>",
            key_end="</k><v>",
            value_end="</v>",
            separator=",",
            call_end="</call>",
        ),
    ),
}


@pytest.mark.parametrize(("call", "expected"), LEARNED.values(), ids=LEARNED)
def test_learned(call: str, expected: CallSyntax) -> None:
    found = describe(template(call))
    assert found.tools == expected
    assert found.tools_shown
    assert found.calls_shown
    assert found.results_shown
    assert found.parallel_calls == ("raise_exception" not in call)
    assert found.object_arguments


@pytest.mark.parametrize(("call", "expected"), LEARNED.values(), ids=LEARNED)
def test_learned_beside_reasoning_and_an_answer_with_marks(call: str, expected: CallSyntax) -> None:
    reasoning = "{{- '<think>' + (message.reasoning_content or '') + '</think>' -}}"
    source = template(call, reasoning=reasoning, prompt="{{- '<think>' -}}").replace(
        "{{- message.content -}}",
        "{{- '<|START_TEXT|>' + message.content + '<|END_TEXT|>' if message.content else '' -}}",
    )
    found = describe(source)
    assert found.tools == expected
    assert found.reasoning == Marks("<think>", "</think>")
    assert found.wrapping == Marks("<|START_TEXT|>", "<|END_TEXT|>")


@pytest.mark.parametrize(("call", "expected"), LEARNED.values(), ids=LEARNED)
def test_learned_from_turns_with_an_end_of_their_own(call: str, expected: CallSyntax) -> None:
    source = template(call).replace(
        "{{- '<|end|>\\n' -}}", "{{- '<|calls_end|>' if message.tool_calls else '<|end|>\\n' -}}"
    )
    found = describe(source)
    assert found.tools == expected
    assert found.turn_end == "<|end|>"


@pytest.mark.parametrize(
    "call",
    [
        "{{- '<c>' + name + '<sep>' + name + '<sep>' + arguments | tojson + '</c>' -}}",  # the name twice
        "{{- '<c>' + call.id + '<sep>' + name + '<sep>' + arguments | tojson + '</c>' -}}",  # the id first
        "{{- '<c>' + name + '<sep>' + arguments | tojson + '<sep>' + call.id + '</c>' -}}",  # the id last
        "{{- '<c>' + name ~ ':' ~ loop.index0 ~ '<sep>' + arguments | tojson + '</c>' -}}",  # a counter
        "{{- name + '\\n' + arguments | tojson -}}",  # nothing to find it by
        "{{- '<c>' + {'name': name, 'arguments': arguments | tojson} | tojson + '</c>' -}}",  # quoted twice
        "{{- '<c>' + name + '(' -}}" + EACH + "{{- key + '=' + value | tojson + ',' -}}{%- endfor -%}{{- ')</c>' -}}",
        "{{- '<c=' + name + '>' -}}"
        + EACH
        + "{{- '<' + key + '>' + value | string + '</' + key + '>' -}}{%- endfor -%}{{- '</c>' -}}",
    ],
)
def test_other_syntaxes_are_none_of_them(call: str) -> None:
    found = describe(template(call))
    assert found.tools is None
    assert found.calls_shown
    assert found.tools_shown


def test_calls_in_messages_of_their_own() -> None:
    """What ends the message with the answer does not end the turn."""
    call = "{{- '<|end|>\\nfunction call<|sep|>' + " + OBJECT + " -}}"
    found = describe(template("{%- if first -%}" + call + "{%- endif -%}"))
    assert found.tools == json_calls(call=Marks("<|end|>\nfunction call<|sep|>", ""))
    assert found.turn_end == ""


def test_empty_reasoning_before_calls_only() -> None:
    call = "{{- ('<think>\\n\\n</think>' if first else '') + '\\n<c>' + " + OBJECT + " + '</c>' -}}"
    found = describe(template(call, prompt="{{- '<think>\\n' -}}"))
    assert found.tools == json_calls(call=Marks("\n<c>", "</c>"))
