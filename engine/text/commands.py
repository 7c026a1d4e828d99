"""What the loop asks of the engine thread."""

from collections.abc import Callable

import attrs

from engine.text.events import Event
from engine.text.requests import GenerationRequest


@attrs.frozen
class Submit:
    """Run the request. ``deliver`` gets its events on the engine thread, in order; it must not block or raise."""

    request: GenerationRequest
    deliver: Callable[[Event], None]


@attrs.frozen
class Cancel:
    """Drop the request wherever it is; no event follows. Unknown ids are ignored (it may just have ended)."""

    request_id: str


@attrs.frozen
class Resume:
    """The client has read: the request's sequence may run again."""

    request_id: str


@attrs.frozen
class Stop:
    """Fail what is left with EngineUnavailable and end the thread."""


type Command = Submit | Cancel | Resume | Stop
