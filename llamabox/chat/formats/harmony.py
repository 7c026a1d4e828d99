"""GPT-OSS's harmony: messages on channels. The prompt ends in ``<|start|>assistant``, inside the first one's header.

What ends a turn (``<|return|>``, ``<|call|>``) ends the generation, and is part of no text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from llamabox.chat.formats.base import Marks, Reading, Tool, Writer
from llamabox.chat.formats.calling import ignore, json_call, paragraph
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.grammar.lark import Lark

_START: Final = "<|start|>"
_CHANNEL: Final = "<|channel|>"
_CONSTRAIN: Final = "<|constrain|>"
_MESSAGE: Final = "<|message|>"
_END: Final = "<|end|>"
_NEXT: Final = f"{_START}assistant"
_CHANNEL_NAME: Final = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT: Final = re.compile(r"\bto=([^\s<]+)")
_NOBODY: Final = frozenset({None, "assistant", "user", "all"})  # recipients of what is no call


@attrs.frozen
class Harmony:
    """Satisfies ``ChatFormat``. ``wrapping`` surrounds the answer's text, as in ``StandardFormat``."""

    # The end takes the next header's beginning along: what follows the reasoning looks like what follows the prompt.
    reasoning: Marks | None = attrs.field(default=Marks(f"{_CHANNEL}analysis{_MESSAGE}", f"{_END}{_NEXT}"), init=False)
    wrapping: Marks = attrs.field(default=Marks(f"{_CHANNEL}final{_MESSAGE}", ""), init=False)
    markers: tuple[str, ...] = attrs.field(default=(_START, _CHANNEL, _CONSTRAIN, _MESSAGE, _END), init=False)
    # A bare " to=functions." is in the reasoning about a call, too.
    call_starts: tuple[str, ...] = attrs.field(
        default=(f"{_NEXT} to=functions.", f"{_CHANNEL}commentary to=functions."), init=False
    )

    def read(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        """See ``ChatFormat.read``."""
        if reading.reasoning_open and (yield from source.at(_START, _CHANNEL)) is None:
            yield from _body(source, out.reasoning)
        while not (yield from source.at_end()):
            source.record()
            try:
                yield from _message(source, out, reading.tools)
            except Unparsable:
                to = _content(out)
                to(source.given_back())
                yield from _body(source, to)

    def answer(self, lark: Lark, body: str) -> str:
        """See ``ChatFormat.answer``."""
        return f"{lark.text(self.wrapping.start)} {body}"

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ChatFormat.calls``."""
        kind = lark.rule(f"({lark.text(' json')} | {lark.text(f' {_CONSTRAIN}json')})?")
        first, message, commentary = lark.text(_NEXT), lark.text(_MESSAGE), lark.text(f"{_CHANNEL}commentary")
        calls = []
        for tool in tools:
            to = lark.text(f" to=functions.{tool.name}")
            header = lark.choice(lark.rule(f"({first})? {to} {commentary}"), lark.rule(f"{commentary} {to}"))
            calls.append(lark.rule(f"{header} {kind} {message} {lark.json(object_schema(tool))}"))
        return lark.choice(*calls)


def _message(source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
    """One message. Raises Unparsable, before anything is written, where it is content with all of its header."""
    yield from source.space()
    started = yield from source.accept(_START)
    if started is None and (yield from source.at(_CHANNEL, _CONSTRAIN, _MESSAGE, "to=")) is None:
        raise Unparsable("expected a header")
    parts: list[str] = []
    found = yield from source.until(_MESSAGE, _END, _START, to=parts.append)
    header = "".join(parts)
    if found is None and (started or "<|" in header):
        source.recorded()  # a header that was cut off tells nothing
        return
    if found != _MESSAGE:
        raise Unparsable("expected a message")
    yield from source.take(len(_MESSAGE))
    recipient = _RECIPIENT.search(header)
    if (recipient[1] if recipient else None) not in _NOBODY:
        assert recipient is not None, "nobody is no recipient"
        yield from json_call(source, out, tools, recipient[1].removeprefix("functions."))
        yield from _body(source, ignore)
        return
    source.recorded()
    channels = _CHANNEL_NAME.findall(header)
    if channels and channels[-1] == "analysis":
        yield from _body(source, paragraph(out.reasoning, more=out.reasoned))
    else:
        yield from _body(source, _content(out))


def _body(source: Reader, to: Callable[[str], None]) -> Parsing[None]:
    """The text of a message, and its end."""
    if (yield from source.until(_END, _START, to=to, trim=True)) == _END:
        yield from source.take(len(_END))


def _content(out: Writer) -> Callable[[str], None]:
    return paragraph(out.content, more=out.said)
