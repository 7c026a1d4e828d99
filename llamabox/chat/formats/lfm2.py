"""LFM2: a list of Python calls between marks."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from llamabox.chat.formats.base import Tool, Writer
from llamabox.chat.formats.calling import begin, calls_in_a_row, known_name
from llamabox.chat.formats.python_calls import call_grammar, read_arguments
from llamabox.chat.formats.reader import Parsing, Reader
from llamabox.chat.grammar.lark import Lark

_START: Final = "<|tool_call_start|>"
_END: Final = "<|tool_call_end|>"


@attrs.frozen
class Lfm2:
    """Satisfies ``ToolSyntax``: ``<|tool_call_start|>[F(k='v'), G()]<|tool_call_end|>``."""

    only_first: bool = attrs.field(default=False, init=False)
    starts: tuple[str, ...] = attrs.field(default=(_START,), init=False)
    markers: tuple[str, ...] = attrs.field(default=(_START, _END), init=False)

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""
        yield from source.expect(_START)
        yield from source.space()
        yield from source.accept("[")

        def call() -> Parsing[bool]:
            name = yield from known_name(source, tools)
            yield from source.space()
            yield from source.expect("(")
            begin(source, out, tools, name)
            yield from read_arguments(source, out.arguments, tools[name])
            yield from source.space()
            comma = yield from source.accept(",")
            yield from source.space()
            return comma is not None and (yield from source.at("]", _END)) is None

        yield from calls_in_a_row(source, out, call)
        yield from source.accept_end(f"] {_END}")

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        call = call_grammar(lark, tools)
        more = f'(", " {call})*' if parallel else ""
        return lark.rule(f'{lark.text(_START)} "[" {call} {more} "]" {lark.text(_END)}')
