"""What a format is to the rest: it reads a model's output, and writes the grammar of what the model may write."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta, Reasoning
from llamabox.chat.formats.reader import Parsing, Reader
from llamabox.chat.grammar.lark import Lark


@attrs.frozen(kw_only=True)
class Tool:
    """A function that the model may call; ``parameters`` is a JSON schema of an object."""

    name: str
    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    description: str = ""
    strict: bool = False


@attrs.frozen
class Marks:
    """What surrounds something. Either may be empty."""

    start: str
    end: str


@attrs.frozen(kw_only=True)
class Reading:
    """What a request brings to the reading of its output."""

    tools: Mapping[str, Tool] = attrs.field(factory=dict)  # none: what looks like a call is content
    reasoning_open: bool = False  # the prompt has opened the reasoning
    new_id: Callable[[], str] = attrs.field()  # ids for calls to which the model gives none


class TurnOver(Exception):
    """A call begins where the turn may have no other one: the turn has ended before it."""


class Writer:
    """Collects what was read. ``parallel``: there may be more than one call."""

    def __init__(self, new_id: Callable[[], str], *, parallel: bool = True) -> None:
        self._new_id = new_id
        self._parallel = parallel
        self._deltas: list[Delta] = []
        self._make: Callable[[str], Delta] | None = None  # what the pieces become
        self._pieces: list[str] = []  # joined once, so that many small ones cost no more than a long one
        self.calls = 0  # begun so far
        self._last: list[str] = []  # the arguments of the call begun last
        self.reasoned = False  # anything but white space
        self.said = False  # content other than white space
        self.answered = False  # content other than white space, or a call

    def content(self, text: str) -> None:
        """Text of the answer."""
        self.said = self.said or bool(text.strip())
        self.answered = self.answered or self.said
        self._add(Content, text)

    def reasoning(self, text: str) -> None:
        """Text of the reasoning."""
        self.reasoned = self.reasoned or bool(text.strip())
        self._add(Reasoning, text)

    def call(self, name: str, call_id: str | None = None) -> None:
        """A tool call begins. Raises TurnOver where it is one too many."""
        if self.calls and not self._parallel:
            raise TurnOver
        self.answered = True
        self._close()
        self._deltas.append(CallStarted(self.calls, call_id or self._new_id(), name))
        self.calls += 1
        self._last = []

    def arguments(self, text: str) -> None:
        """More of the JSON text of the arguments of the call begun last."""
        assert self.calls, "arguments need a call"
        self._last.append(text)
        self._add(self._arguments, text)

    @property
    def in_call(self) -> bool:
        """Whether the arguments of the call begun last are not whole: no JSON value yet."""
        if not self.calls:
            return False
        try:
            json.loads("".join(self._last))
        except ValueError:
            return True
        except RecursionError:  # nested too deeply to tell: as if it were whole
            return False
        return False

    def drain(self) -> list[Delta]:
        """What was collected since the last time."""
        self._close()
        deltas, self._deltas = self._deltas, []
        return deltas

    def _arguments(self, text: str) -> CallArguments:
        return CallArguments(self.calls - 1, text)

    def _add(self, make: Callable[[str], Delta], text: str) -> None:
        if text:
            if make != self._make:
                self._close()
                self._make = make
            self._pieces.append(text)

    def _close(self) -> None:
        if self._make is not None:
            self._deltas.append(self._make("".join(self._pieces)))
        self._make, self._pieces = None, []


class ToolSyntax(Protocol):
    """How a family writes its tool calls."""

    @property
    def starts(self) -> tuple[str, ...]:
        """What begins a section of calls, each without white space at its ends."""

    @property
    def only_first(self) -> bool:
        """Whether calls are found at the beginning of the answer only: their start is too common a text."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Every fixed text of the format: what of it is a control token must be shown as text."""

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """Read one section, from one of ``starts`` (not read yet) to its end.

        Raises Unparsable where the text is something else, before the first call has been begun if at all possible.
        What was read of a call that failed is given back by ``source.given_back()``: record anew at each call.
        """

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """An expression that matches a section with one call (with ``parallel``: one or more) of these tools."""


class ChatFormat(Protocol):
    """How a model writes its turn."""

    @property
    def markers(self) -> tuple[str, ...]:
        """See ``ToolSyntax.markers``; those of the reasoning too."""

    @property
    def call_starts(self) -> tuple[str, ...]:
        """What begins tool calls; () if they have no sure beginning, so that "auto" cannot constrain them."""

    @property
    def reasoning(self) -> Marks | None:
        """What surrounds reasoning. Its start is empty if only the prompt opens it."""

    @property
    def wrapping(self) -> Marks | None:
        """What surrounds the answer's text."""

    def read(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        """Read the whole turn. Never raises Unparsable."""

    def answer(self, lark: Lark, body: str) -> str:
        """An expression for a turn's answer (behind the reasoning) of the expression ``body``.

        ``lark.FREE_TEXT``, or its rule, as the body means any text.
        """

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """An expression for a turn that is tool calls (behind the reasoning), from the call's start on."""
