"""A turn as all chat APIs see it: text, reasoning and tool calls, piece by piece or as a whole."""

from collections.abc import Sequence
from typing import Literal, Protocol

import attrs

from api.errors import ApiError
from engine.text.events import PrefillProgress, Timings
from engine.text.requests import TokenInfo
from llamabox.chat.deltas import Delta

# Why it ended. "stop": by itself or at a stop string; "length" wins wherever a limit ended it.
type Ending = Literal["stop", "length", "tool_calls"]


@attrs.frozen
class ToolCall:
    """``arguments``: the text of a JSON object, as the model wrote it; of a custom tool the text that it gets."""

    id: str
    name: str
    arguments: str


@attrs.frozen(kw_only=True)
class Part:
    """What came together: never without anything in it. Only the last part of a turn may have no deltas."""

    deltas: Sequence[Delta]
    tokens: Sequence[int]
    infos: Sequence[TokenInfo]
    timings: Timings


@attrs.frozen(kw_only=True)
class TurnEnd:
    """The figures of a turn that has ended."""

    ending: Ending
    stop_string: str  # "" unless one of the client's ended it
    cut_call: bool = False  # a stop string or a limit has cut the last call in two: it is none to carry out
    timings: Timings
    reasoning_tokens: int


@attrs.frozen(kw_only=True)
class Turn:
    """A whole turn."""

    content: str
    reasoning: str
    calls: Sequence[ToolCall]
    tokens: Sequence[int]
    infos: Sequence[TokenInfo]
    end: TurnEnd


class TurnRenderer(Protocol):
    """Writes turns as the server-sent events of one API. Every method gives whole events, or b""."""

    def progress(self, choice: int, progress: PrefillProgress) -> bytes:
        """A part of the prompt is computed."""

    def part(self, choice: int, part: Part) -> bytes:
        """More of a turn."""

    def finish(self, choice: int, end: TurnEnd) -> bytes:
        """A turn has ended."""

    def end(self, ends: Sequence[TurnEnd]) -> bytes:
        """All turns have ended; in the order of the choices."""

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that cannot go on."""

    @property
    def ping(self) -> bytes:
        """What keeps a silent connection alive."""
