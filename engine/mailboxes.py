"""Where the events of a request wait for their reader: a part of ``engine.bridge``."""

from collections.abc import Callable, Sequence

import trio

from engine.embedding.requests import Embedded
from engine.event_queue import EventQueue
from engine.text.events import Event, Failed, Finished, Notice


class EventStream(EventQueue[Event]):
    """The unread events of one generation.

    It never refuses an event; a client that does not read is noticed by ``full`` and its sequence pauses.
    """

    def __init__(
        self, capacity: int, wake_engine: Callable[[], None], arrivals: trio.lowlevel.ParkingLot | None = None
    ) -> None:
        super().__init__(arrivals)
        self._capacity = capacity
        self._wake_engine = wake_engine
        self._pausing = False
        self._posted = 0  # events on their way or here; only the engine thread counts
        self._read = 0  # only the reader counts

    def full(self) -> bool:
        """Called by the engine thread. See ``engine.text.commands.Mailbox``."""
        # The flag goes up before the count is looked at: a reader that drains in between sees it and wakes us.
        self._pausing = True
        if self._posted - self._read < self._capacity:
            self._pausing = False
            return False
        return True

    def posted(self) -> None:
        """Called by the engine thread: one more event is on its way."""
        self._posted += 1

    def put(self, event: Event) -> None:
        """Called in the loop: an event has arrived."""
        if not self.ended:
            self._add(event, terminal=isinstance(event, Finished | Failed))

    async def __anext__(self) -> Event:
        event = await super().__anext__()
        self._count_read(1)
        return event

    def take(self) -> Sequence[Event]:
        """All events that are here, without waiting."""
        if not self._events:
            return ()
        events = [*self._events]
        self._events.clear()
        self._count_read(len(events))
        return events

    def _count_read(self, count: int) -> None:
        self._read += count
        if self._pausing and len(self._events) <= self._capacity // 2:
            self._pausing = False
            self._wake_engine()


class Reply:
    """The one event of a request for embeddings, and who waits for it."""

    def __init__(self) -> None:
        self._arrived = trio.Event()
        self._event: Embedded | Failed | None = None

    def full(self) -> bool:
        """There is always room for the one event."""
        return False

    def put(self, event: Notice) -> None:
        """Called in the loop: the event has arrived."""
        if isinstance(event, Embedded | Failed) and self._event is None:
            self._event = event
            self._arrived.set()

    @property
    def ended(self) -> bool:
        return self._event is not None

    async def wait(self) -> Embedded:
        """The vectors, when they are there. Raises the error of a Failed."""
        await self._arrived.wait()
        if isinstance(self._event, Failed):
            raise self._event.error
        assert self._event is not None, "an event has arrived"
        return self._event
