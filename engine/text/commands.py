"""What the loop asks of the engine thread."""

from typing import Protocol

import attrs

from engine.embedding.requests import EmbeddingRequest
from engine.text.requests import GenerationRequest


class Mailbox(Protocol):
    """Where the events of one request go. The thread only asks whether there is room; the bridge delivers."""

    def full(self) -> bool:
        """Whether the client has so much unread that its sequence should pause. A Resume follows when it has read."""


@attrs.frozen
class Submit:
    """Run the request; its events go to ``mailbox``."""

    request: GenerationRequest
    mailbox: Mailbox


@attrs.frozen
class Cancel:
    """Drop the request wherever it is; no event follows. Unknown ids are ignored (it may just have ended)."""

    request_id: str


@attrs.frozen
class Embed:
    """Compute the texts of the request; its one event goes to ``mailbox``, which is never full."""

    request: EmbeddingRequest
    mailbox: Mailbox


@attrs.frozen
class CancelEmbed:
    """Drop the texts that are not computed yet; no event follows. Unknown ids are ignored."""

    request_id: str


@attrs.frozen
class Resume:
    """A client has read: its sequence may run again. Only wakes the thread, mailboxes know the rest."""


@attrs.frozen
class Stop:
    """Fail what is left with EngineUnavailable and end the thread."""


type Command = Submit | Cancel | Embed | CancelEmbed | Resume | Stop
