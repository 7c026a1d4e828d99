"""The clients of a soak: come, ask, read as the plan says, leave."""

import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from tools.bench.load import Address, LoadError, connection, encode_request
from tools.bench.prompts import Prompts
from tools.bench.soaking.answers import CHAT, Answer, request_of
from tools.bench.soaking.visits import Ask, Leaving, Visit
from tools.bench.wire import EventParser, ProtocolError, ResponseParser

FAILURES = (LoadError, ProtocolError, OSError, ValueError, KeyError, trio.BrokenResourceError, trio.TooSlowError)
HALF_REQUEST = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{{".encode()
SMALL_BUFFER = 4096  # bytes that the kernel keeps for a slow reader
SLOW_READS = 40  # so many of 512 bytes, then as fast as it comes


@attrs.define
class Tally:
    """What happened to the visits."""

    visits: Counter[tuple[Ask, Leaving]] = attrs.field(factory=Counter)
    errors: list[str] = attrs.field(factory=list)

    @property
    def n_visits(self) -> int:
        """Those that went as planned."""
        return self.visits.total()


async def visit(address: Address, what: Visit, prompts: Prompts, tally: Tally, limit: float) -> None:
    """One client; it must be through after ``limit`` seconds."""
    try:
        with trio.fail_after(limit):
            await act(address, what, prompts)
    except* FAILURES as group:
        error = group.exceptions[0]
        tally.errors.append(f"client {what.name}, {what.ask.value}, leaving {what.leaving.value}: {error!r}")
    else:
        tally.visits[what.ask, what.leaving] += 1


async def act(address: Address, what: Visit, prompts: Prompts) -> None:
    """The request of a client, up to where it goes. Raises LoadError for an answer that is wrong."""
    path, body = request_of(what, prompts)
    request = encode_request("POST", path, address, body)
    match what.leaving:
        case Leaving.HALF_REQUEST:
            async with connection(address) as stream:
                await stream.send_all(HALF_REQUEST)
        case Leaving.BEFORE_ANSWER:
            async with connection(address) as stream:
                with trio.move_on_after(what.patience):
                    await stream.send_all(request)
                    await read(stream, what)
        case Leaving.MID_STREAM:
            async with connection(address) as stream:
                await stream.send_all(request)
                await read(stream, what, events=what.events)
        case Leaving.SLOWLY:
            async with small_connection(address) as stream:
                await stream.send_all(request)
                await trio.sleep(what.patience)
                check(await read(stream, what, slow=True), what)
        case Leaving.AT_END:
            async with connection(address) as stream:
                await stream.send_all(request)
                check(await read(stream, what), what)


def check(answer: Answer, what: Visit) -> None:
    """Raises LoadError."""
    if found := answer.complaints(what):
        raise LoadError("; ".join(found))


async def read(stream: trio.SocketStream, what: Visit, *, events: int | None = None, slow: bool = False) -> Answer:
    """What comes, to its end or for so many events. Raises LoadError and ProtocolError."""
    response, parser, answer = ResponseParser(), EventParser(), Answer()
    body, done, reads = bytearray(), False, 0
    while not response.done:
        is_slow = slow and reads < SLOW_READS
        data = await stream.receive_some(512 if is_slow else 65536)
        if is_slow:
            await trio.sleep(what.patience / SLOW_READS)
        reads += 1
        for piece in response.feed(data):
            body += piece
            if response.status != 200 or not what.stream:
                continue
            for event in parser.feed(piece):
                done = event == b"[DONE]"
                if not done:
                    answer.take(json.loads(event))
        if events is not None and answer.events >= events:
            return answer
        if not data:
            response.finish()
    if response.status != 200:
        msg = f"status {response.status}: {bytes(body[:300])!r}"
        raise LoadError(msg)
    if not what.stream:
        answer.take(json.loads(body))
    elif not done:
        answer.errors.append("the stream ended without [DONE]")
    return answer


@asynccontextmanager
async def small_connection(address: Address) -> AsyncIterator[trio.SocketStream]:
    """A connection whose client keeps little of what it has not read."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        await sock.connect((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    async with trio.SocketStream(sock) as stream:
        yield stream
