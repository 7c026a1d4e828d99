"""Reads an output in pieces and says what it was."""

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from llamabox.chat.deltas import CallArguments, CallStarted, Content, Reasoning
from llamabox.chat.formats.base import ChatFormat, Tool, ToolSyntax
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.parser import OutputParser

WEATHER: Final = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 0},
            "exact": {"type": "boolean"},
            "unit": {"enum": ["C", "F"]},
            "where": {
                "type": "object",
                "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
                "required": ["lat"],
            },
        },
        "required": ["city"],
    },
)
CLOCK: Final = Tool(name="get", parameters={"type": "object", "properties": {}, "additionalProperties": False})
ANY: Final = Tool(name="anything")
TOOLS: Final = {tool.name: tool for tool in (WEATHER, CLOCK, ANY)}


@attrs.frozen
class Call:
    """A tool call. ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


@attrs.frozen
class Read:
    """What an output was."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()

    @property
    def parsed(self) -> list[tuple[str, Any]]:
        """Names and arguments of the calls."""
        return [(call.name, json.loads(call.arguments)) for call in self.calls]


def read(
    chat_format: ChatFormat | ToolSyntax,
    pieces: Iterable[str],
    *,
    tools: Mapping[str, Tool] = TOOLS,
    reasoning_open: bool = False,
    finish: bool = True,
    at_limit: bool = False,
) -> Read:
    """Feed the pieces to a parser; a mere syntax of tools is put into a format without reasoning."""
    whole = chat_format if hasattr(chat_format, "answer") else StandardFormat(tools=chat_format)
    ids = (f"id{number}" for number in itertools.count())
    parser = OutputParser(whole, tools=tools, reasoning_open=reasoning_open, new_id=lambda: next(ids))
    deltas = [delta for piece in pieces for delta in parser.feed(piece)]
    deltas += parser.finish(at_limit=at_limit) if finish else []
    texts = {Content: "", Reasoning: ""}
    calls: list[Call] = []
    for delta in deltas:
        match delta:
            case CallStarted(index, call_id, name):
                assert index == len(calls), "calls are numbered in their order, and begin once"
                assert name in tools
                calls.append(Call(call_id, name, ""))
            case CallArguments(index, text):
                assert text, "no empty deltas"
                assert index == len(calls) - 1, "arguments belong to the last call"
                calls[-1] = attrs.evolve(calls[-1], arguments=calls[-1].arguments + text)
            case _:
                assert delta.text, "no empty deltas"
                texts[type(delta)] += delta.text
    return Read(texts[Content], texts[Reasoning], tuple(calls))
