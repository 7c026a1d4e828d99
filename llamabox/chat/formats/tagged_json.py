"""Tool calls whose name stands between marks and whose arguments are JSON, like ``<function=F>{…}</function>``."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from llamabox.chat.formats.base import Marks, Tool, Writer
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.formats.sections import (
    SectionReader,
    beginning,
    first_word,
    read_name,
    section_grammar,
    sequence,
    written,
)
from llamabox.chat.grammar.lark import Lark

_ID: Final = "/[a-zA-Z0-9]{9}/"


@attrs.frozen(kw_only=True)
class TaggedJson:
    """Satisfies ``ToolSyntax``. The id, if there is one, stands between the name and the arguments."""

    section: Marks
    call_start: str
    name_end: str
    call_end: str
    separator: str
    id_start: str | None = None

    @property
    def starts(self) -> tuple[str, ...]:
        """See ``ToolSyntax.starts``."""
        start = beginning(self.section.start, self.call_start)
        return (start,) if start else ()

    @property
    def only_first(self) -> bool:
        """See ``ToolSyntax.only_first``."""
        return False

    @property
    def markers(self) -> tuple[str, ...]:
        """See ``ToolSyntax.markers``."""
        marks = (self.section.start, self.call_start, self.id_start, self.name_end, self.call_end, self.separator)
        return tuple(mark for mark in (*marks, self.section.end) if mark)

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""
        section = SectionReader(source, out, (self.separator,), first_word(self.call_start))
        yield from section.read(self.section, lambda: self._call(source, out, tools))

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        calls = [self._behind_start(lark, tool) for tool in tools]
        return section_grammar(lark, self.section, self.separator, self.call_start, calls, parallel=parallel)

    def _call(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        yield from source.expect_loose(self.call_start)
        name = yield from read_name(source, tools)
        yield from source.space()
        call_id: str | None = None
        if self.id_start is not None and (yield from source.accept(self.id_start.strip())):
            call_id = (yield from source.text_until(first_word(self.name_end) or "{")).strip()
        yield from source.expect_loose(self.name_end)
        yield from source.space()
        end = first_word(self.call_end)
        if (yield from source.at("{")):
            out.call(name, call_id)
            yield from source.json(out.arguments)
        elif (yield from source.at(end)):
            out.call(name, call_id)
            out.arguments(json.dumps({}))
        else:
            raise Unparsable("a call's arguments are no JSON object")
        yield from source.accept_end(self.call_end)

    def _behind_start(self, lark: Lark, tool: Tool) -> tuple[str, str]:
        behind = sequence(lark.json(object_schema(tool)), written(lark, self.call_end))
        if self.id_start is None:
            return tool.name + self.name_end, behind
        return tool.name + self.id_start, sequence(lark.rule(_ID), written(lark, self.name_end), behind)
