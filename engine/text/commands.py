"""What the loop asks of the engine thread."""

from typing import Protocol

import attrs

from engine.embedding.requests import EmbeddingRequest
from engine.text.requests import GenerationRequest
from engine.text.snapshot import Snapshot


class Mailbox(Protocol):
    """Where the events of one request go. The thread only asks whether there is room; the bridge delivers."""

    def full(self) -> bool:
        """Whether the client has so much unread that its sequence should pause. A Resume follows when it has read."""


@attrs.frozen
class Submit:
    """Run the request; its events go to ``mailbox``."""

    request: GenerationRequest
    mailbox: Mailbox


@attrs.frozen(eq=False)
class SaveSlot:
    """Copy what the slot's last sequence left in the cache; waits until the slot is free.

    As for all commands about slots, one SlotDone or Failed follows.
    """

    id: str
    slot: int
    mailbox: Mailbox


@attrs.frozen(eq=False)
class RestoreSlot:
    """Put the snapshot into the cache, and let the slot remember it; waits until the slot is free."""

    id: str
    slot: int
    mailbox: Mailbox
    snapshot: Snapshot


@attrs.frozen(eq=False)
class EraseSlot:
    """Drop what the slot's last sequence left in the cache; waits until the slot is free."""

    id: str
    slot: int
    mailbox: Mailbox


@attrs.frozen
class Cancel:
    """Drop the request, or the command about a slot, wherever it is; no event follows.

    Unknown ids are ignored (it may just have ended).
    """

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


type SlotCommand = SaveSlot | RestoreSlot | EraseSlot
type Command = Submit | SlotCommand | Cancel | Embed | CancelEmbed | Resume | Stop
