"""A text engine without an engine: what it has to say comes in steps, as from the real one, to all streams at once."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from engine.mailboxes import EventStream
from engine.text.requests import GenerationRequest
from tests.api.fake_engine import FakeEngine, Step

_BUFFER = 64


@attrs.define
class StepEngine(FakeEngine):
    """Plays the script to each request that is open. ``run`` is its engine thread, a task.

    The events are those of the first request for all of them: to make events is another thread's work.
    """

    _events: Sequence[Step] = attrs.field(default=(), init=False)
    _playing: dict[EventStream, Iterator[Step]] = attrs.field(factory=dict, init=False)
    _arrived: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest, arrivals: trio.lowlevel.ParkingLot | None = None
    ) -> AsyncIterator[EventStream]:
        stream = EventStream(_BUFFER, lambda: None, arrivals)
        self._events = self._events or self.script(request)
        self._playing[stream] = iter(self._events)
        self._arrived.unpark()
        try:
            yield stream
        finally:
            self._playing.pop(stream, None)

    async def run(self) -> None:
        """Step after step, without end."""
        while True:
            for stream, events in list(self._playing.items()):
                event = next(events, None)
                if event is None:
                    del self._playing[stream]
                else:
                    assert not isinstance(event, trio.Event), "nothing is waited for here"
                    stream.put(event)
            if not self._playing:
                await self._arrived.park()
            # Whoever has got an event runs before the next one comes: each is taken, and written, by itself.
            for _ in range(2):
                await trio.lowlevel.checkpoint()
