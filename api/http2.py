"""HTTP/2: Hypercorn's, which ends the whole connection for what is wrong with one request."""

from contextlib import suppress

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, RequestReceived, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, H2Protocol, StreamBuffer
from hyperframe.frame import Frame, GoAwayFrame


class Http2Buffer(StreamBuffer):
    """What a reply has not sent yet. Its writer waits while that is much: Hypercorn wakes it as often as it looks for
    something to send, also where the client takes nothing.
    """

    async def pop(self, max_length: int) -> bytes:
        """Take what is to be sent next, so many bytes at most."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class Http2Connection(H2Connection):
    """What is sent and received. For h2 all ends where one side says that it will, though what runs may go on."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        return [], [event]


class Http2(H2Protocol):
    """Many requests over one connection; what becomes of one leaves the others alone."""

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        """The connection begins. Hypercorn would offer WebSockets."""
        made = self.connection
        self.connection = Http2Connection(made.config)
        self.connection.local_settings = made.local_settings
        self.connection.DEFAULT_MAX_INBOUND_FRAME_SIZE = made.DEFAULT_MAX_INBOUND_FRAME_SIZE
        del self.connection.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]
        await super().initiate(headers, settings)

    async def _handle_events(self, events: list[Event]) -> None:
        """One by one: a stream may go while the event before is handled."""
        for event in events:
            match event:
                case RequestReceived() if not _is_readable(event):
                    with suppress(ProtocolError):  # reset by now
                        self.connection.send_headers(event.stream_id, [(b":status", b"400")], end_stream=True)
                case DataReceived() if event.stream_id not in self.streams:
                    # Behind the reply. The client may finish, and the window of the others is not used up.
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamReset():
                    # As one that has ended by itself: the connection may be idle now.
                    await self.stream_send(StreamClosed(stream_id=event.stream_id))
                    await self._window_updated(event.stream_id)
                case ConnectionTerminated(error_code=ErrorCodes.NO_ERROR) if self.streams:
                    pass  # its last requests: who asked closes behind them (RFC 9113, 6.8), or the idle limit does
                case _:
                    await super()._handle_events([event])
        await self._flush()


def _is_readable(request: RequestReceived) -> bool:
    """Whether Hypercorn finds in the head what it takes for granted: a path, which a tunnel has not, in ASCII."""
    head = dict(request.headers)
    return b":path" in head and head[b":path"].isascii() and head[b":method"].isascii()
