"""What the learned tool syntaxes share: a section of calls around the calls."""

from collections.abc import Callable, Mapping, Sequence

from llamabox.chat.formats.base import Marks, Tool, Writer
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.grammar.lark import Lark


def beginning(*marks: str) -> str:
    """By what the first of these marks that is not blank is found: its first line."""
    return next((mark.strip().split("\n")[0].rstrip() for mark in marks if mark.strip()), "")


def first_word(mark: str) -> str:
    """What a mark begins with, however the white space in it is written."""
    words = mark.split()
    return words[0] if words else ""


def read_name(source: Reader, tools: Mapping[str, Tool]) -> Parsing[str]:
    """Read a tool's name. Raises Unparsable if there is no such tool."""
    yield from source.space()
    name = yield from source.accept(*tools)
    if name is None:
        raise Unparsable("no known tool is named")
    return name


class SectionReader:
    """Reads calls until none follows. What only looks like another call is content; that it is one is known once begun.

    ``separators`` may come between calls; ``next_start`` begins every further one.
    """

    def __init__(self, source: Reader, out: Writer, separators: Sequence[str], next_start: str) -> None:
        self._source = source
        self._out = out
        self._separators = [separator.strip() for separator in separators]
        self._next_start = next_start
        self._begun: int | None = None  # calls at the end of the last whole one

    def done(self) -> None:
        """A call is whole: to be told where ``call`` of ``read`` goes on with another one."""
        self._begun = self._out.calls
        self._source.record()

    def read(self, marks: Marks, call: Callable[[], Parsing[None]]) -> Parsing[None]:
        """Read a section: ``call`` reads one call or more, from the start on. Raises Unparsable in the first one."""
        try:
            yield from self._source.expect_loose(marks.start)
            yield from call()
            self.done()
            while (yield from self._follows(marks.end)):
                yield from call()
                self.done()
        except Unparsable:
            if self._begun is None or self._out.calls > self._begun:
                raise
            self._out.content(self._source.given_back())

    def _follows(self, end: str) -> Parsing[bool]:
        yield from self._source.space()
        separator = yield from self._source.accept(*self._separators)
        yield from self._source.space()
        if (yield from self._source.at(self._next_start, first_word(end))) == self._next_start:
            return True
        if not (yield from self._source.accept_end(end)) and separator is not None:
            self._out.content(self._source.given_back())
        return False


def section_grammar(
    lark: Lark, section: Marks, separator: str, call_start: str, calls: Sequence[tuple[str, str]], *, parallel: bool
) -> str:
    """An expression for a section. ``calls``: for each tool the fixed text behind ``call_start`` and what follows it.

    White space in front of the first mark is left to whoever puts the section into a turn. What is fixed is written
    in one piece: llguidance takes the longest text that may come, and does not go back to a shorter one.
    """
    assert calls, "a grammar of calls needs tools"

    def begun(mark: str) -> str:
        return lark.rule(" | ".join(sequence(lark.text(mark + head), behind) for head, behind in calls))

    more = f"{begun(separator + call_start)}*" if parallel else ""
    return lark.rule(sequence(begun((section.start + call_start).lstrip()), more, written(lark, section.end.rstrip())))


def written(lark: Lark, text: str) -> str:
    """An expression for a fixed text; "" for none."""
    return lark.text(text) if text else ""


def sequence(*expressions: str) -> str:
    """The expressions one behind the other, without those that are ""."""
    return " ".join(expression for expression in expressions if expression)
