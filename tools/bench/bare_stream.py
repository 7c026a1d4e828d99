"""The least that streams of events take on Trio: their bytes, made by hand, through sockets. For comparison."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT: Final = b'data: {"id":"%s","object":"chat.completion.chunk","choices":[{"delta":{"content":" word%d"}}]}\n\n'
_ID: Final = b"chatcmpl-" + b"0" * 24


@asynccontextmanager
async def serving(tokens: int) -> AsyncIterator[int]:
    """A server at the port that is given; each request gets so many events, one at a time, and a last one."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            while b"\r\n\r\n" not in await stream.receive_some():
                pass
            await stream.send_all(_HEAD)
            for number in range(tokens):
                event = _EVENT % (_ID, number % 7)
                await stream.send_all(b"%x\r\n%s\r\n" % (len(event), event))
            await stream.send_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()
