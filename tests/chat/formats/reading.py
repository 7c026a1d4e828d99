"""Feeding texts to a parser, and putting together what it says."""

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta, Reasoning
from llamabox.chat.formats.base import ChatFormat, Marks, Tool, ToolSyntax
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.parser import OutputParser
from tests.chat.formats.shapes import TOOLS


@attrs.define
class Read:
    """What a whole output came to. ``calls``: id, name and arguments' text."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = attrs.field(factory=list)

    def add(self, delta: Delta) -> None:
        """The next piece, which must not be empty and must belong to the call begun last."""
        match delta:
            case Content(text):
                assert text
                self.content += text
            case Reasoning(text):
                assert text
                self.reasoning += text
            case CallStarted(index, call_id, name):
                assert index == len(self.calls)
                assert name
                self.calls.append((call_id, name, ""))
            case CallArguments(index, text):
                assert text
                assert index == len(self.calls) - 1
                call_id, name, before = self.calls[-1]
                self.calls[-1] = (call_id, name, before + text)

    @property
    def values(self) -> list[tuple[str, Any]]:
        """The calls with their arguments as values."""
        return [(name, json.loads(text)) for _, name, text in self.calls]


def parser_of(
    syntax: ToolSyntax | ChatFormat,
    tools: Mapping[str, Tool] = TOOLS,
    *,
    reasoning: Marks | None = None,
    reasoning_open: bool = False,
    parallel: bool = True,
) -> OutputParser:
    """A parser whose ids of calls without one are id0, id1, …"""
    count = itertools.count()
    chat_format = StandardFormat(reasoning=reasoning, tools=syntax) if hasattr(syntax, "starts") else syntax
    return OutputParser(
        chat_format, tools=tools, parallel=parallel, reasoning_open=reasoning_open, new_id=lambda: f"id{next(count)}"
    )


def read(
    syntax: ToolSyntax | ChatFormat,
    pieces: Iterable[str],
    tools: Mapping[str, Tool] = TOOLS,
    *,
    reasoning: Marks | None = None,
    reasoning_open: bool = False,
    parallel: bool = True,
    at_limit: bool = False,
    stop_string: str = "",
) -> Read:
    """Feed the pieces to a new parser."""
    parser = parser_of(syntax, tools, reasoning=reasoning, reasoning_open=reasoning_open, parallel=parallel)
    result = Read()
    for piece in pieces:
        for delta in parser.feed(piece):
            result.add(delta)
    for delta in parser.finish(at_limit=at_limit, stop_string=stop_string):
        result.add(delta)
    return result


def every_split(text: str) -> Iterable[list[str]]:
    """The text as a whole, in two pieces in every way, and character by character."""
    yield [text]
    yield from ([text[:at], text[at:]] for at in range(1, len(text)))
    yield list(text)
