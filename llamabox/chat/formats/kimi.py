"""Kimi K2: a section of calls whose ids name the tool, ``functions.F:0``."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from llamabox.chat.formats.base import Tool, Writer
from llamabox.chat.formats.calling import calls_in_a_row, json_call
from llamabox.chat.formats.reader import Parsing, Reader
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.grammar.lark import Lark

_START: Final = "<|tool_calls_section_begin|>"
_END: Final = "<|tool_calls_section_end|>"
_CALL: Final = "<|tool_call_begin|>"
_ARGUMENTS: Final = "<|tool_call_argument_begin|>"
_CALL_END: Final = "<|tool_call_end|>"
_ID: Final = re.compile(r"(?:functions\.)?(?P<name>.+?)(?P<number>:[0-9]+)?", re.DOTALL)


@attrs.frozen
class Kimi:
    """Satisfies ``ToolSyntax``. The model gives the ids."""

    only_first: bool = attrs.field(default=False, init=False)
    starts: tuple[str, ...] = attrs.field(default=(_START,), init=False)
    markers: tuple[str, ...] = attrs.field(default=(_START, _END, _CALL, _ARGUMENTS, _CALL_END), init=False)

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""

        def call() -> Parsing[bool]:
            yield from source.expect_loose(_CALL)
            call_id = (yield from source.text_until(_ARGUMENTS, _CALL_END, _END)).strip()
            yield from source.expect(_ARGUMENTS)
            found = _ID.fullmatch(call_id)
            name = found["name"] if found else ""
            yield from json_call(source, out, tools, name, call_id if found and found["number"] else None)
            yield from source.accept_end(_CALL_END)
            return (yield from source.at(_CALL)) is not None

        yield from source.expect(_START)
        yield from calls_in_a_row(source, out, call)
        yield from source.accept_end(_END)

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        number, arguments = lark.rule("/0|[1-9][0-9]{0,3}/"), lark.text(_ARGUMENTS)
        call = lark.choice(
            *[
                lark.rule(
                    f"{lark.text(f'{_CALL}functions.{tool.name}:')} {number} {arguments}"
                    f" {lark.json(object_schema(tool))} {lark.text(_CALL_END)}"
                )
                for tool in tools
            ]
        )
        return lark.rule(f"{lark.text(_START)} {call}{'+' if parallel else ''} {lark.text(_END)}")
