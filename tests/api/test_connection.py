"""How bytes get to the socket: few system calls, nothing lost, nothing out of order."""

import os

import attrs
import httpx
import msgspec
import pytest
import trio

from tests.api.conftest import make_services
from tests.api.fake_engine import FakeEngine, say
from tests.api.test_loopback import CHAT, HI, serving

HEAD = b"HTTP/1.1 200"


@attrs.define
class Writes:
    """What was written directly; the socket takes at most ``room`` bytes of each."""

    parts: list[bytes] = attrs.field(factory=list)
    room: int | None = None

    def __call__(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise BlockingIOError
        written = os.write(descriptor, data[: self.room])
        self.parts.append(data[:written])
        return written


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    made = Writes()
    monkeypatch.setattr("api.connection._write", made)
    return made


async def test_a_whole_reply_is_one_write(writes: Writes) -> None:
    async with serving(make_services()) as url, httpx.AsyncClient(base_url=url) as client:
        for _ in range(2):
            reply = await client.post(CHAT, json=HI)
    assert [part.startswith(HEAD) for part in writes.parts] == [True, True]
    assert all(part.endswith(reply.content[-20:]) for part in writes.parts)


async def test_replies_without_a_body(writes: Writes) -> None:
    async with serving(make_services(cors_origins=("*",))) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.options(CHAT, headers={"Origin": "http://a"})).status_code == 204
        head = await client.head("/health")
        assert (head.status_code, head.content) == (200, b"")
        assert (await client.get("/health")).json() == {"status": "ok"}
    assert len(writes.parts) == 3


@pytest.mark.parametrize("room", [0, 1, 7, 100])
async def test_what_the_socket_does_not_take_follows_in_order(writes: Writes, room: int) -> None:
    writes.room = room
    engine = FakeEngine(script=say(*(f" word{i}" for i in range(50))))
    async with serving(make_services(engine)) as url, httpx.AsyncClient(base_url=url) as client:
        whole = await client.post(CHAT, json=HI)
        stream = await client.post(CHAT, json={**HI, "stream": True})
    said = whole.json()["choices"][0]["message"]["content"]
    assert said == "".join(f" word{i}" for i in range(50))
    assert stream.text.endswith("data: [DONE]\n\n")
    events = [msgspec.json.decode(line[6:]) for line in stream.text.split("\n\n")[:-2]]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == said


async def test_a_reader_that_is_slow_gets_all(writes: Writes) -> None:
    """More than the kernel buffers: the write waits, and goes on when the client reads."""
    text = "x" * 1000
    engine = FakeEngine(script=say(*[text] * 10_000))
    async with serving(make_services(engine)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        body = {**HI, "stream": True}
        async with client.stream("POST", CHAT, json=body) as reply:
            await trio.testing.wait_all_tasks_blocked(0.01)  # nobody reads, so everybody waits
            received = b"".join([part async for part in reply.aiter_raw()])
    assert received.count(text.encode()) == 10_000


async def test_a_client_that_leaves_an_idle_connection_leaves_no_task() -> None:
    """Not after the limit of idle connections: at once."""
    async with serving(make_services()) as url:
        host, port = url.removeprefix("http://").split(":")
        await trio.testing.wait_all_tasks_blocked()  # the server's own tasks are all there
        before = trio.lowlevel.current_statistics().tasks_living
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await stream.receive_some()).startswith(HEAD)
        assert trio.lowlevel.current_statistics().tasks_living > before
        await stream.aclose()
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("path", [CHAT, "/nowhere"])
async def test_a_reply_that_comes_before_the_body_says_that_the_connection_ends(path: str) -> None:
    """A client that pools connections would send its next request into one that is about to close."""
    body = msgspec.json.encode(HI)
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with serving(make_services(api_keys=("secret",))) as url:
        host, port = url.removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            for _ in range(2):
                await stream.send_all(head + body)
                reply = await stream.receive_some()
                assert reply.startswith(b"HTTP/1.1 401")
                assert b"connection: close" not in reply
            await stream.send_all(head)
            reply = b"".join([part async for part in stream])
    assert reply.startswith(b"HTTP/1.1 401")
    assert b"\r\nconnection: close\r\n" in reply


@pytest.mark.parametrize(("version", "chunked"), [("1.1", True), ("1.0", False)])
async def test_a_stream_is_in_chunks_where_the_client_knows_them(version: str, *, chunked: bool) -> None:
    body = msgspec.json.encode({**HI, "stream": True})
    head = f"POST {CHAT} HTTP/{version}\r\nHost: test\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serving(make_services()) as url:
        host, port = url.removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(head.encode() + body)
            received = b"".join([part async for part in stream])
    head_sent, _, rest = received.partition(b"\r\n\r\n")
    assert (b"transfer-encoding: chunked" in head_sent.lower()) is chunked
    parts = []
    while chunked and rest:
        size, _, rest = rest.partition(b"\r\n")
        part, end, rest = rest[: int(size, 16)], rest[int(size, 16) :][:2], rest[int(size, 16) + 2 :]
        assert end == b"\r\n"
        parts.append(part)
    said = b"".join(parts) if chunked else rest
    assert said.startswith(b"data: {")
    assert said.endswith(b"data: [DONE]\n\n")
    if chunked:
        assert parts[-1] == b""
        assert all(part.endswith(b"\n\n") for part in parts[:-1])
