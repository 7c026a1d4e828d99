"""The way from an engine's door to the task that reads a request's events: a part of both bridges."""

from collections import deque
from typing import Self

import trio


class EventQueue[E]:
    """The unread events of one request. An async iterator for one task; ends after the terminal event."""

    def __init__(self, arrivals: trio.lowlevel.ParkingLot | None = None) -> None:
        """``arrivals``: where the reader waits, if it waits for several requests at once."""
        self._events: deque[E] = deque()
        self._lot = arrivals or trio.lowlevel.ParkingLot()
        self.ended = False  # the terminal event has arrived

    def _add(self, event: E, *, terminal: bool) -> None:
        self._events.append(event)
        self.ended = terminal
        self._lot.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if self._events:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not self._events:
            if self.ended:
                raise StopAsyncIteration
            await self._lot.park()
        return self._events.popleft()
