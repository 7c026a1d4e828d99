"""Reads a model's output as it arrives: ``feed`` text, get what it means."""

import secrets
from collections.abc import Callable, Mapping

from llamabox.chat.deltas import Delta
from llamabox.chat.formats.base import ChatFormat, Reading, Tool, TurnOver, Writer
from llamabox.chat.formats.reader import Parsing, Reader


def random_id() -> str:
    """An id for a tool call."""
    return f"call_{secrets.token_hex(12)}"


class OutputParser:
    """One turn of a model. Text goes in once; nothing is read twice, and nothing fails: what is no call is content."""

    def __init__(
        self,
        chat_format: ChatFormat,
        *,
        tools: Mapping[str, Tool] | None = None,
        parallel: bool = True,
        reasoning_open: bool = False,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        """``tools``: those that may be called, by name; without any, what looks like a call is content.

        Without ``parallel`` the turn ends where a second call begins: what follows means nothing.
        """
        self.over = False  # the turn has ended so
        self._source = Reader()
        self._out = Writer(new_id, parallel=parallel)
        reading = Reading(tools=tools or {}, reasoning_open=reasoning_open, new_id=new_id)
        self._parsing: Parsing[None] | None = chat_format.read(self._source, self._out, reading)

    @property
    def calls(self) -> int:
        """Tool calls begun so far."""
        return self._out.calls

    @property
    def in_call(self) -> bool:
        """Whether the tool call begun last is not whole."""
        return self._out.in_call

    @property
    def answering(self) -> bool:
        """Whether content or a tool call has begun: what comes before is reasoning."""
        return self._out.answered

    def feed(self, text: str) -> list[Delta]:
        """What the text, with what was held back before, turns out to be."""
        self._source.push(text)
        return self._advance()

    def finish(self, *, at_limit: bool = False, stop_string: str = "") -> list[Delta]:
        """What was still held back: the output has ended, by itself unless at a limit or where a stop string came."""
        self._source.close(at_limit=at_limit, stop_string=stop_string)
        return self._advance()

    def _advance(self) -> list[Delta]:
        if self._parsing is not None:
            try:
                next(self._parsing)
            except StopIteration:
                self._parsing = None
            except TurnOver:
                self._parsing = None
                self.over = True
        if self._parsing is None and (rest := self._source.rest()) and not self.over:
            self._out.content(rest)
        return self._out.drain()
