"""The format of most models: reasoning between marks, then text, then sections of tool calls."""

from collections.abc import Sequence
from functools import cached_property

import attrs

from llamabox.chat.formats.base import Marks, Reading, Tool, ToolSyntax, Writer
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.grammar.lark import Lark


@attrs.frozen(kw_only=True, slots=False)
class StandardFormat:
    """Satisfies ``ChatFormat``. ``wrapping`` surrounds the answer's text, and is no part of it."""

    reasoning: Marks | None = None
    wrapping: Marks | None = None
    tools: ToolSyntax | None = None

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """See ``ChatFormat.markers``."""
        marks = [m for m in (self.reasoning, self.wrapping) if m is not None]
        own = [text for m in marks for text in (m.start, m.end) if text]
        return (*own, *(self.tools.markers if self.tools else ()))

    @cached_property
    def call_starts(self) -> tuple[str, ...]:
        """See ``ChatFormat.call_starts``."""
        return () if self.tools is None or self.tools.only_first else self.tools.starts

    def read(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        """See ``ChatFormat.read``."""
        calls = self.tools.starts if self.tools is not None and reading.tools else ()
        if reading.reasoning_open:
            yield from self._reason(source, out, calls)
        elif self.reasoning is not None and self.reasoning.start:
            yield from source.space()
            if (yield from source.accept(self.reasoning.start.strip())):
                yield from self._reason(source, out, calls)
        yield from self._answer(source, out, reading, calls)

    def answer(self, lark: Lark, body: str) -> str:
        """See ``ChatFormat.answer``."""
        if self.wrapping is None:
            return body
        return f"{lark.text(self.wrapping.start)} {body} {lark.text(self.wrapping.end)}"

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ChatFormat.calls``."""
        assert self.tools is not None, "a format without tools cannot call"
        return self.tools.grammar(lark, tools, parallel=parallel)

    def _reason(self, source: Reader, out: Writer, calls: tuple[str, ...]) -> Parsing[None]:
        """Up to the end of the reasoning; a model that calls a tool before it closes its reasoning has ended it too."""
        assert self.reasoning is not None, "only a format with reasoning can have it open"
        yield from source.space()
        end = self.reasoning.end.strip()
        sure = () if self.tools is None or self.tools.only_first else calls
        found = yield from source.until(end, *sure, to=out.reasoning, trim=True)
        if found == end:
            yield from source.take(len(end))

    def _answer(self, source: Reader, out: Writer, reading: Reading, calls: tuple[str, ...]) -> Parsing[None]:
        wraps = tuple(mark.strip() for mark in attrs.astuple(self.wrapping) if mark) if self.wrapping else ()
        only_first = self.tools is not None and self.tools.only_first
        spaces = yield from source.space()
        while True:
            if only_first and out.answered:
                calls = ()
            found = yield from source.at(*calls, *wraps)
            if found is None:
                if spaces and out.answered:
                    out.content(spaces)
                ends = (*(() if only_first else calls), *wraps)
                found = yield from source.until(*ends, to=out.content, trim=True)
            if found is None:
                return
            if found in wraps:
                yield from source.take(len(found))
                spaces = yield from source.space()
                continue
            yield from self._section(source, out, reading)
            spaces = yield from source.space()

    def _section(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        assert self.tools is not None, "only a format with tools has sections of them"
        source.record()
        begun = out.calls
        try:
            yield from self.tools.read(source, out, reading.tools)
        except Unparsable:
            rest = source.recorded()
            if out.calls == begun:
                out.content(rest)
                # What looked like a call and is none may not be tried again at the same place.
                yield from source.until(to=out.content)
            return
        source.recorded()
