"""The format of most models: reasoning between marks, then text, then sections of tool calls."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

import attrs

from llamabox.chat.formats.base import Marks, Reading, Tool, ToolSyntax, Writer
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.reasoning import begin_reasoning, read_reasoning
from llamabox.chat.grammar.lark import Lark

_NONE: Final = Marks("", "")
_FENCE: Final = "```json"
_FENCE_END: Final = "```"


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
        spaces = yield from source.space()
        if self.reasoning is not None and (yield from begin_reasoning(source, self.reasoning, reading)):
            yield from self._reason(source, out, reading, self.reasoning)
            yield from source.space()
            spaces = ""
        if calls:
            spaces = yield from self._bare(source, out, reading, spaces)
        yield from self._answer(source, out, reading, calls, spaces)

    def answer(self, lark: Lark, body: str) -> str:
        """See ``ChatFormat.answer``."""
        if self.wrapping is None:
            return body
        return f"{lark.text(self.wrapping.start)} {body} {lark.text(self.wrapping.end)}"

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ChatFormat.calls``."""
        assert self.tools is not None, "a format without tools cannot call"
        return self.tools.grammar(lark, tools, parallel=parallel)

    def _reason(self, source: Reader, out: Writer, reading: Reading, marks: Marks) -> Parsing[None]:
        """Up to the end of the reasoning; a model that calls a tool before it closes its reasoning has ended it too."""
        sure = self.call_starts if reading.tools else ()
        while (yield from read_reasoning(source, out, marks, *sure)) is not None:
            if (yield from self._section(source, out, reading, source.trimmed, out.reasoning)) is not None:
                return

    def _bare(self, source: Reader, out: Writer, reading: Reading, spaces: str) -> Parsing[str]:
        """Read calls at the beginning of the answer whose marks the model forgot, as small models do.

        ``spaces``: what came before. Returns what there is of white space in front of the rest.
        """
        if not isinstance(self.tools, JsonCalls) or self.tools.only_first:
            return spaces
        if (yield from source.at("{", _FENCE)) is None:
            return spaces
        bare = attrs.evolve(self.tools, section=_NONE, call=_NONE, is_list=False)
        source.record()
        try:
            fenced = yield from source.accept(_FENCE)
            yield from bare.read(source, out, reading.tools)
        except Unparsable:
            rest = source.given_back()
            if rest and not out.calls:
                out.content(spaces + rest)
            return ""
        source.recorded()
        yield from source.accept_end(self.tools.call.end)
        if fenced:
            yield from source.accept_end(_FENCE_END)
        return (yield from source.space())

    def _answer(
        self, source: Reader, out: Writer, reading: Reading, calls: tuple[str, ...], spaces: str
    ) -> Parsing[None]:
        wraps = tuple(mark.strip() for mark in attrs.astuple(self.wrapping) if mark) if self.wrapping else ()
        only_first = self.tools is not None and self.tools.only_first
        begun = out.answered  # white space before the answer is the model's own
        while not (yield from source.at_end()):
            if only_first and out.answered:
                calls = ()
            found = yield from source.at(*calls, *wraps)
            first = not begun
            if found is None:
                out.content(spaces if out.said or first else "")
                ends = (*(() if only_first else calls), *wraps)
                found = yield from source.until(*ends, to=out.content, trim=bool(ends), at_limit=bool(calls))
                spaces = source.trimmed
            begun = True
            if found is None:
                return
            if found in wraps:
                yield from source.take(len(found))
                spaces = yield from source.space()
            else:
                behind = yield from self._section(
                    source, out, reading, spaces if out.said or first else "", out.content
                )
                spaces = "" if behind is None else behind + (yield from source.space())
        if not begun:
            out.content(spaces)

    def _section(
        self, source: Reader, out: Writer, reading: Reading, spaces: str, to: Callable[[str], None]
    ) -> Parsing[str | None]:
        """Read calls; returns the white space read behind them. None: text that only looked like some is with ``to``.

        ``spaces``: what came before, which goes to ``to`` too.
        """
        assert self.tools is not None, "only a format with tools has sections of them"
        source.record()
        begun = out.calls
        try:
            yield from self.tools.read(source, out, reading.tools)
        except Unparsable:
            rest = source.given_back()
            if out.calls > begun or (not rest and (yield from source.at_end())):
                return ""
            to(spaces + rest)
            if not rest:  # or it would be tried again at the same place
                to((yield from source.take(1)))
            return None
        rest = source.given_back()
        return rest[len(rest.rstrip()) :]
