"""A connection: Hypercorn's, with limits of its own and a shorter way to the socket."""

from itertools import chain, repeat
from os import write as _write
from typing import Any, Final

import h11
import hypercorn.protocol.h2
import hypercorn.protocol.h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from api.http1 import Http1
from api.http2 import Http2, Http2Buffer
from api.idle import IdleLimit
from api.websockets import NoWebSocket

WIRE: Final = "wire"  # the connection's name in the state of its requests

# Where Hypercorn takes them from; there is no option.
hypercorn.protocol.H11Protocol = Http1  # type: ignore[attr-defined]
hypercorn.protocol.H2Protocol = Http2  # type: ignore[attr-defined]
hypercorn.protocol.h11.WSStream = hypercorn.protocol.h2.WSStream = NoWebSocket  # type: ignore[attr-defined, assignment]
hypercorn.protocol.h2.StreamBuffer = Http2Buffer  # type: ignore[misc]


class Connection(TCPServer):
    """Serves one client. ``idle_timeout``: seconds until its first request; between requests Hypercorn's limit holds.

    Bytes are written without a task switch where the socket takes them: a token's event costs one system call. Tasks
    still take turns, for whoever writes has waited for what it writes.
    """

    def __init__(
        self, idle_timeout: float, app: AppWrapper, config: Config, context: WorkerContext, stream: Any
    ) -> None:
        super().__init__(app, config, context, ConnectionState({WIRE: self}), stream)
        limits = chain((idle_timeout,), repeat(config.keep_alive_timeout))
        self._idle = IdleLimit(limits, context.terminated.wait)
        self.idle_task = self._idle  # type: ignore[assignment]  # Hypercorn has but one kind
        self._descriptor = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._holds = False
        self._held = b""

    @property
    def is_receiving(self) -> bool:
        """Whether the body of the request over HTTP/1.1 is still on its way: Hypercorn closes behind a reply to it."""
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and protocol.connection.their_state is h11.SEND_BODY

    def hold(self) -> None:
        """The next bytes wait for those behind them, which come at once: a head for its body."""
        self._holds = True

    async def protocol_send(self, event: Event) -> None:
        """Called by Hypercorn's protocols: bytes for the client, or what became of the connection."""
        if isinstance(event, RawData) and self._holds:
            self._holds = False
            self._held += event.data
            return
        if self._held:
            data, self._held = self._held, b""
            if isinstance(event, RawData):
                event = RawData(data + event.data)
            else:
                await self.protocol_send(RawData(data))
        if isinstance(event, RawData):
            rest = self._write(event.data)
            if not rest:
                return
            event = RawData(rest)
        # The task may be cancelled by now: its request has ended, or was reset over HTTP/2, where bytes that are lost
        # spoil what follows for all requests. And closing has checkpoints.
        with trio.CancelScope(shield=True):
            await super().protocol_send(event)

    async def send_chunk(self, data: bytes) -> None:
        """A part of a body in chunks, as h11 would write it: it remembers nothing of one, so it need not see it.

        Only for a response over HTTP/1.1 whose head has gone through Hypercorn and whose end will.
        """
        if data:
            await self.protocol_send(RawData(b"%x\r\n%b\r\n" % (len(data), data)))

    def _write(self, data: bytes) -> bytes:
        """What the socket did not take. Its errors are found, and dealt with, where the rest is sent."""
        if self._descriptor is None or self.send_lock.locked():
            return data
        try:
            return data[_write(self._descriptor.fileno(), data) :] if data else data
        except OSError:
            return data

    async def _read_data(self) -> None:
        try:
            while True:
                try:
                    data = await self.stream.receive_some(MAX_RECV)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                await self.protocol.handle(RawData(bytes(data)))
                if not data:
                    break
            await self.protocol.handle(Closed())
        finally:
            self._idle.end()

    async def _idle_timeout(self) -> None:
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()
