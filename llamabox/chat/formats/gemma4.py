"""Gemma 4: ``<|tool_call>call:F{k:<|"|>text<|"|>,n:2}<tool_call|>``, strings between marks of their own, keys bare."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from llamabox.chat.formats.base import Tool, Writer
from llamabox.chat.formats.calling import begin, known_name
from llamabox.chat.formats.notation import Notation, ValueGrammar
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.formats.values import read_value
from llamabox.chat.grammar.lark import Lark

_START: Final = "<|tool_call>"
_END: Final = "<tool_call|>"
_QUOTE: Final = '<|"|>'
_KEY: Final = "/[A-Za-z_][A-Za-z0-9_]*/"

_NOTATION: Final = Notation(
    quote=lambda text: _QUOTE + text + _QUOTE,
    text=lambda lark: lark.rule(f"{lark.text(_QUOTE)} {lark.until(_QUOTE)}"),
    any_key=_KEY,
    key=str,
    colon=":",
    comma=",",
    true="true",
    false="false",
    null="null",
    sorted_keys=True,  # the model has seen sorted arguments only
)


@attrs.frozen
class Gemma4:
    """Satisfies ``ToolSyntax``. Each call has its own marks."""

    only_first: bool = attrs.field(default=False, init=False)
    starts: tuple[str, ...] = attrs.field(default=(_START,), init=False)
    markers: tuple[str, ...] = attrs.field(default=(_START, _END, _QUOTE), init=False)

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""
        yield from source.expect(_START)
        yield from source.space()
        yield from source.accept("call:")
        name = yield from known_name(source, tools)
        yield from source.space()
        if (yield from source.at("{")) is None:
            raise Unparsable("expected arguments")
        begin(source, out, tools, name)
        yield from read_value(source, out.arguments, quotes=(_QUOTE, '"'), closing="}")
        yield from source.accept_end(_END)

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        calls = []
        for tool in tools:
            schema = object_schema(tool)
            members = ValueGrammar(lark=lark, notation=_NOTATION, root=schema).members(schema, str, ":", _KEY)
            start = lark.text(f"{_START}call:{tool.name}{{")
            calls.append(lark.rule(f'{start} {members} "}}" {lark.text(_END)}'))
        call = lark.choice(*calls)
        return lark.rule(f"{call}+") if parallel else call
