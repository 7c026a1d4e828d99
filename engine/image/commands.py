"""What the loop asks of the image thread."""

import attrs

from engine.image.requests import AnyRequest


class Mailbox:
    """Where the events of one request go. The thread only names it; the bridge's own delivers."""


@attrs.frozen
class Submit:
    """Run the request; its events go to ``mailbox``."""

    request: AnyRequest
    mailbox: Mailbox


@attrs.frozen
class Cancel:
    """Drop the request wherever it is; no event follows. Unknown ids are ignored (it may just have ended)."""

    request_id: str


@attrs.frozen
class Stop:
    """Fail what is left with EngineUnavailable and end the thread."""


type Command = Submit | Cancel | Stop
