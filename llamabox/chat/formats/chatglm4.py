"""ChatGLM4: the name of a tool on a line of its own, then its arguments. Only at the beginning, for it has no mark."""

from collections.abc import Sequence

import attrs

from llamabox.chat.formats.base import Marks, Reading, Tool, Writer
from llamabox.chat.formats.calling import calls_in_a_row, json_call, known_name
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.reasoning import begin_reasoning, read_reasoning
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.grammar.lark import Lark


@attrs.frozen
class ChatGlm4:
    """Satisfies ``ChatFormat``. What begins a call is the name of a tool, which no ``ToolSyntax`` could announce."""

    reasoning: Marks | None = None
    wrapping: Marks | None = attrs.field(default=None, init=False)
    call_starts: tuple[str, ...] = attrs.field(default=(), init=False)

    @property
    def markers(self) -> tuple[str, ...]:
        """See ``ChatFormat.markers``."""
        return () if self.reasoning is None else (self.reasoning.start, self.reasoning.end)

    def read(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        """See ``ChatFormat.read``."""

        def call() -> Parsing[bool]:
            name = yield from known_name(source, reading.tools)
            yield from json_call(source, out, reading.tools, name)
            yield from source.space()
            return (yield from source.at(*reading.tools)) is not None

        if self.reasoning is not None and (yield from begin_reasoning(source, self.reasoning, reading)):
            yield from read_reasoning(source, out, self.reasoning)
        yield from source.space()
        source.record()
        try:
            yield from calls_in_a_row(source, out, call)
        except Unparsable:
            # The name of a tool is no mark: an answer up to a stop string may be just that.
            out.content(source.given_back() if source.at_limit else source.recorded())
        else:
            source.skip_half()
        yield from source.until(to=out.content)

    def answer(self, lark: Lark, body: str) -> str:
        """See ``ChatFormat.answer``."""
        return body

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ChatFormat.calls``."""
        call = lark.choice(
            *[lark.rule(f"{lark.text(f'{tool.name}\n')} {lark.json(object_schema(tool))}") for tool in tools]
        )
        return lark.rule(f"{call} ({lark.text('\n')} {call})*") if parallel else call
