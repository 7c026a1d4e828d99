"""The tool syntaxes of well-known families, as the analysis describes them, and how each writes calls."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from llamabox.chat.formats.base import Marks, Tool, ToolSyntax
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.formats.tagged_json import TaggedJson

type Call = tuple[str, Mapping[str, Any]]

NO_MARKS: Final = Marks("", "")
HERMES: Final = JsonCalls(
    section=NO_MARKS,
    call=Marks("<tool_call>\n", "\n</tool_call>"),
    separator="\n",
    is_list=False,
    keys=("name", "arguments"),
    name_key="name",
    arguments_key="arguments",
    id_key=None,
)
NEMO: Final = JsonCalls(
    section=Marks("[TOOL_CALLS]", ""),
    call=NO_MARKS,
    separator=", ",
    is_list=True,
    keys=("name", "arguments", "id"),
    name_key="name",
    arguments_key="arguments",
    id_key="id",
)
LLAMA3: Final = JsonCalls(
    section=NO_MARKS,
    call=NO_MARKS,
    separator="; ",
    is_list=False,
    keys=("name", "parameters"),
    name_key="name",
    arguments_key="parameters",
    id_key=None,
)
APERTUS: Final = JsonCalls(
    section=Marks("<|tools_prefix|>", "<|tools_suffix|>"),
    call=NO_MARKS,
    separator=", ",
    is_list=True,
    keys=(),
    name_key="",
    arguments_key="",
    id_key=None,
    name_is_key=True,
)
COMMAND_R7B: Final = JsonCalls(
    section=Marks("<|START_ACTION|>", "<|END_ACTION|>"),
    call=NO_MARKS,
    separator=", ",
    is_list=True,
    keys=("tool_call_id", "tool_name", "parameters"),
    name_key="tool_name",
    arguments_key="parameters",
    id_key="tool_call_id",
)
COMMAND_R7B_LINES: Final = attrs.evolve(COMMAND_R7B, list_start="[\n    ", list_end="\n]", separator=",\n    ")
NESTED: Final = JsonCalls(
    section=Marks("<calls>", "</calls>"),
    call=NO_MARKS,
    separator=", ",
    is_list=True,
    keys=("type", "function", "name", "arguments"),
    name_key="name",
    arguments_key="arguments",
    id_key=None,
    constants={"type": "function"},
    wrapper_key="function",
)
DEEPSEEK_R1: Final = TaggedJson(
    section=Marks("<\uff5ctool▁calls▁begin\uff5c>", "<\uff5ctool▁calls▁end\uff5c>"),
    call_start="<\uff5ctool▁call▁begin\uff5c>function<\uff5ctool▁sep\uff5c>",
    name_end="\n```json\n",
    call_end="\n```<\uff5ctool▁call▁end\uff5c>",
    separator="\n",
)
DEVSTRAL: Final = TaggedJson(section=NO_MARKS, call_start="[TOOL_CALLS]", name_end="[ARGS]", call_end="", separator="")
MISTRAL_SMALL: Final = TaggedJson(
    section=NO_MARKS, call_start="[TOOL_CALLS]", id_start="[CALL_ID]", name_end="[ARGS]", call_end="", separator=""
)
FUNCTIONARY: Final = TaggedJson(
    section=NO_MARKS, call_start="<function=", name_end=">", call_end="</function>", separator=""
)
QWEN3_CODER: Final = TaggedArguments(
    section=NO_MARKS,
    call_start="<tool_call>\n<function=",
    name_end=">\n",
    key_start="<parameter=",
    key_end=">\n",
    value_end="\n</parameter>\n",
    separator="",
    call_end="</function>\n</tool_call>",
    between="\n",
)
SEED_OSS: Final = TaggedArguments(
    section=NO_MARKS,
    call_start="<seed:tool_call>\n<function=",
    name_end=">\n",
    key_start="<parameter=",
    key_end=">",
    value_end="</parameter>\n",
    separator="",
    call_end="</function>\n</seed:tool_call>",
    between="\n",
)
GLM: Final = TaggedArguments(
    section=NO_MARKS,
    call_start="<tool_call>",
    name_end="\n",
    key_start="<arg_key>",
    key_end="</arg_key>\n<arg_value>",
    value_end="</arg_value>",
    separator="\n",
    call_end="\n</tool_call>",
    between="\n",
)
MINIMAX: Final = TaggedArguments(
    section=Marks("<minimax:tool_call>\n", "\n</minimax:tool_call>"),
    call_start='<invoke name="',
    name_end='">\n',
    key_start='<parameter name="',
    key_end='">',
    value_end="</parameter>\n",
    separator="",
    call_end="</invoke>",
    between="\n",
)
COMMAS: Final = TaggedArguments(
    section=Marks("<calls>", "</calls>"),
    call_start="<",
    name_end=">(",
    key_start="{",
    key_end="=",
    value_end="}",
    separator=", ",
    call_end=")",
    between=" and ",
)

SYNTAXES: Final[dict[str, ToolSyntax]] = {
    "hermes": HERMES,
    "nemo": NEMO,
    "llama3": LLAMA3,
    "apertus": APERTUS,
    "command-r7b": COMMAND_R7B,
    "command-r7b-lines": COMMAND_R7B_LINES,
    "nested": NESTED,
    "deepseek-r1": DEEPSEEK_R1,
    "devstral": DEVSTRAL,
    "mistral-small": MISTRAL_SMALL,
    "functionary": FUNCTIONARY,
    "qwen3-coder": QWEN3_CODER,
    "seed-oss": SEED_OSS,
    "glm": GLM,
    "minimax": MINIMAX,
    "commas": COMMAS,
}

# Control tokens of some of them, as a tokenizer would have them.
SPECIAL: Final[dict[str, tuple[str, ...]]] = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "nemo": ("[TOOL_CALLS]",),
    "deepseek-r1": tuple(
        f"<\uff5ctool▁{name}\uff5c>" for name in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end")
    ),
    "mistral-small": ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
    "glm": ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
}

WEATHER: Final = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "kelvin"]},
            "days": {"type": "integer"},
            "note": {"type": ["string", "null"]},
            "where": {"$ref": "#/$defs/place"},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"lat": {"type": "number"}, "near": {"type": "array", "items": {"type": "string"}}},
                "additionalProperties": False,
            }
        },
    },
)
SQUARE: Final = Tool(
    name="get",  # the beginning of the other's name
    parameters={"type": "object", "properties": {"n": {"type": "number"}, "exact": {"type": "boolean"}}},
)
CLOCK: Final = Tool(name="get_time")
TOOLS: Final = {tool.name: tool for tool in (WEATHER, SQUARE, CLOCK)}


def canonical(syntax: ToolSyntax, calls: Sequence[Call]) -> str:
    """The text of these calls, as a template of this family would write it."""
    match syntax:
        case JsonCalls():
            return _json_calls(syntax, calls)
        case TaggedJson():
            return _tagged_json(syntax, calls)
        case TaggedArguments():
            return _tagged_arguments(syntax, calls)
        case _:
            raise AssertionError(f"no serializer for {syntax}")


def _json_calls(syntax: JsonCalls, calls: Sequence[Call]) -> str:
    texts = [
        f"{syntax.call.start}{dumped(_json_call(syntax, at, name, arguments))}{syntax.call.end}"
        for at, (name, arguments) in enumerate(calls)
    ]
    body = syntax.separator.join(texts)
    if syntax.is_list:
        body = f"{syntax.list_start}{body}{syntax.list_end}"
    return f"{syntax.section.start}{body}{syntax.section.end}"


def _json_call(syntax: JsonCalls, at: int, name: str, arguments: Mapping[str, Any]) -> Any:
    if syntax.name_is_key:
        return {name: arguments}
    if syntax.wrapper_key:
        return {**syntax.constants, syntax.wrapper_key: {"name": name, "arguments": arguments}}
    call_id = str(at) if syntax.id_key == "tool_call_id" else f"abcdef{at:03}"
    values = {syntax.name_key: name, syntax.arguments_key: arguments, syntax.id_key: call_id}
    return {key: values[key] for key in syntax.keys}


def _tagged_json(syntax: TaggedJson, calls: Sequence[Call]) -> str:
    texts = [
        f"{syntax.call_start}{name}{f'{syntax.id_start}abcdef{at:03}' if syntax.id_start else ''}{syntax.name_end}"
        f"{dumped(arguments)}{syntax.call_end}"
        for at, (name, arguments) in enumerate(calls)
    ]
    return f"{syntax.section.start}{syntax.separator.join(texts)}{syntax.section.end}"


def _tagged_arguments(syntax: TaggedArguments, calls: Sequence[Call]) -> str:
    texts = []
    for name, arguments in calls:
        parts = [
            f"{syntax.key_start}{key}{syntax.key_end}{value if isinstance(value, str) else dumped(value)}"
            f"{syntax.value_end}"
            for key, value in arguments.items()
        ]
        texts.append(f"{syntax.call_start}{name}{syntax.name_end}{syntax.separator.join(parts)}{syntax.call_end}")
    return f"{syntax.section.start}{syntax.between.join(texts)}{syntax.section.end}"


def dumped(value: Any) -> str:
    """JSON as templates write it."""
    return json.dumps(value, ensure_ascii=False)
