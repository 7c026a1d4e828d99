"""HTTP/2: Hypercorn's, which ends the connection when a body goes on after the reply to it."""

from h2.events import DataReceived, Event
from hypercorn.protocol.h2 import H2Protocol


class Http2(H2Protocol):
    """Many requests over one connection; what comes of one leaves the others alone."""

    async def _handle_events(self, events: list[Event]) -> None:
        """One by one: a stream may go while the event before is handled."""
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # Dropped, and acknowledged: the client may finish, and the window of the others is not used up.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                await super()._handle_events([event])
        await self._flush()
