"""Functionary 3.2: every message names its recipient, ``>>>all`` or ``>>>F``. The prompt ends in the first ``>>>``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from llamabox.chat.formats.base import Marks, Reading, Tool, Writer
from llamabox.chat.formats.calling import json_call, paragraph
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.grammar.lark import Lark

_MESSAGE: Final = ">>>"
_ALL: Final = "all"


@attrs.frozen
class Functionary:
    """Satisfies ``ChatFormat``. ``wrapping`` surrounds the answer's text, as in ``StandardFormat``."""

    reasoning: Marks | None = attrs.field(default=None, init=False)
    wrapping: Marks = attrs.field(default=Marks(f"{_ALL}\n", ""), init=False)
    markers: tuple[str, ...] = attrs.field(default=(_MESSAGE,), init=False)
    call_starts: tuple[str, ...] = attrs.field(default=(), init=False)  # ">>>" is in answers about Python, too

    def read(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        """See ``ChatFormat.read``."""
        heads = tuple(f"{_MESSAGE}{name}\n" for name in (_ALL, *reading.tools))
        while not (yield from source.at_end()):
            source.record()
            try:
                yield from self._message(source, out, reading.tools, heads)
            except Unparsable:
                to = _content(out)
                to(source.given_back())
                yield from source.until(*heads, to=to, trim=True, at_limit=bool(reading.tools))

    def answer(self, lark: Lark, body: str) -> str:
        """See ``ChatFormat.answer``."""
        return f"{lark.text(self.wrapping.start)} {body}"

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ChatFormat.calls``."""
        call = lark.choice(
            *[lark.rule(f"{lark.text(f'{tool.name}\n')} {lark.json(object_schema(tool))}") for tool in tools]
        )
        return lark.rule(f"{call} ({lark.text(_MESSAGE)} {call})*") if parallel else call

    def _message(self, source: Reader, out: Writer, tools: Mapping[str, Tool], heads: tuple[str, ...]) -> Parsing[None]:
        """One message. Raises Unparsable where it has no recipient, or one that is not known."""
        yield from source.space()
        yield from source.accept(_MESSAGE)
        name = yield from source.expect(_ALL, *tools)
        if name in tools:
            yield from json_call(source, out, tools, name)
        else:
            if not (yield from source.at_end()):
                yield from source.expect("\n")
            source.recorded()
            yield from source.until(*heads, to=_content(out), trim=True, at_limit=bool(tools))


def _content(out: Writer) -> Callable[[str], None]:
    return paragraph(out.content, more=out.said)
