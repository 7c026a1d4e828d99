"""A client of one HTTP/2 connection, by prior knowledge. It reads only while somebody waits for something."""

from collections.abc import Callable
from typing import Self

import attrs
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

MAX_WINDOW = 2**31 - 1
PATIENCE = 20  # seconds: what hangs fails


@attrs.define
class Reply:
    """What has come of it so far."""

    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytearray = attrs.field(factory=bytearray)
    trailers: dict[str, str] = attrs.field(factory=dict)
    ended: bool = False
    reset: bool = False

    @property
    def status(self) -> str | None:
        return self.headers.get(":status")


@attrs.define
class Http2Client:
    stream: trio.SocketStream
    replies: dict[int, Reply] = attrs.field(factory=dict)
    connection: H2Connection = attrs.field(
        factory=lambda: H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    )

    @classmethod
    async def connect(cls, url: str, *, window: int = MAX_WINDOW) -> Self:
        """``window``: bytes that a reply may send ahead of an acknowledgement, of which there are none."""
        host, port = url.removeprefix("http://").split(":")
        client = cls(await trio.open_tcp_stream(host, int(port)))
        client.connection.initiate_connection()
        client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        client.connection.increment_flow_control_window(MAX_WINDOW - 65535)
        await client.flush()
        return client

    async def ask(self, method: str, path: str, *, body: bytes | None = b"", **headers: str) -> int:
        """Send a request; its stream. With None for a body it is left open."""
        pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "test")]
        return await self.ask_with([*pseudo, *headers.items()], body=body)

    async def ask_with(self, head: list[tuple[str, str]], *, body: bytes | None) -> int:
        """The same, whatever the head."""
        number = self.begin(head, end=body == b"")
        await self.flush()
        if body:
            await self.send(number, body, end=True)
        return number

    def begin(self, head: list[tuple[str, str]], *, end: bool = False) -> int:
        """The head of a request, which goes out with what is flushed next."""
        number = self.connection.get_next_available_stream_id()
        self.replies[number] = Reply()
        self.connection.send_headers(number, head, end_stream=end)
        return number

    async def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        """Send a part of a request's body as fast as the server takes it."""
        for at in range(0, len(data), 16_384):
            part = data[at : at + 16_384]
            await self.until(lambda part=part: self.connection.local_flow_control_window(number) >= len(part))
            self.connection.send_data(number, part)
            await self.flush()
        if end:
            self.connection.end_stream(number)
            await self.flush()

    async def reset(self, number: int) -> None:
        self.connection.reset_stream(number, ErrorCodes.CANCEL)
        await self.flush()

    async def say_goodbye(self, error: int = ErrorCodes.NO_ERROR) -> None:
        """GOAWAY, and in the same bytes whatever is to be sent. h2 itself would take no more replies."""
        goodbye = GoAwayFrame(0, last_stream_id=0, error_code=error)
        await self.stream.send_all(goodbye.serialize() + self.connection.data_to_send())

    async def reply(self, number: int) -> Reply:
        """The whole of it."""
        reply = self.replies[number]
        await self.until(lambda: reply.ended or reply.reset)
        assert not reply.reset
        return reply

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until it is so."""
        while not condition():
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some(65_536)
            assert data, "the server has closed the connection"
            for event in self.connection.receive_data(data):
                self._take(event)
            await self.flush()

    async def closed(self) -> None:
        """Read until the server has closed the connection."""
        with trio.fail_after(PATIENCE):
            async for data in self.stream:
                for event in self.connection.receive_data(data):
                    self._take(event)

    def _take(self, event: object) -> None:
        match event:
            case ResponseReceived(stream_id=number, headers=headers):
                self.replies[number].headers = dict(headers)
            case TrailersReceived(stream_id=number, headers=headers):
                self.replies[number].trailers = dict(headers)
            case DataReceived(stream_id=number, data=data):
                self.replies[number].body += data
            case StreamEnded(stream_id=number):
                self.replies[number].ended = True
            case StreamReset(stream_id=number):
                self.replies[number].reset = True
            case _:
                pass  # settings, windows, acknowledgements

    async def flush(self) -> None:
        await self.stream.send_all(self.connection.data_to_send())
