"""Over HTTP/2 one connection serves many requests: what becomes of one of them leaves the others alone."""

import msgspec
import pytest
import trio

from api.http2 import Http2Buffer
from tests.api.conftest import make_services
from tests.api.fake_engine import FakeEngine, say
from tests.api.http2 import MAX_WINDOW, Http2Client
from tests.api.test_loopback import CHAT, HI, TEXT, serving

STREAM = msgspec.json.encode({**HI, "stream": True})
MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/nowhere", {}, "404"), (CHAT, {"content-encoding": "gzip"}, "415"), (CHAT, {"content-length": "9" * 12}, "413")],
)
async def test_a_reply_before_the_body_leaves_the_other_requests_alone(
    path: str, headers: dict[str, str], status: str
) -> None:
    """The rest of the body, many times what the windows hold, is taken and dropped."""
    gate = trio.Event()
    engine = FakeEngine(lambda request: [TEXT, gate, *say("llo")(request)])
    async with serving(make_services(engine)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            running = await client.ask("POST", CHAT, body=STREAM)
            await client.until(lambda: b"He" in client.replies[running].body)
            early = await client.ask("POST", path, body=None, **headers)
            assert (await client.reply(early)).status == status
            await client.send(early, bytes(4 * MIB))
            assert not client.replies[running].ended
            gate.set()
            assert (await client.reply(running)).body.endswith(b"data: [DONE]\n\n")
            await client.send(early, bytes(MIB), end="content-length" not in headers)
            after = await client.ask("GET", "/health")
            assert (await client.reply(after)).status == "200"


async def test_a_body_that_grows_too_long_leaves_the_connection_alone() -> None:
    """The reply comes in the midst of it."""
    async with serving(make_services(max_body=MIB)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            long = await client.ask("POST", CHAT, body=bytes(4 * MIB))
            assert (await client.reply(long)).status == "413"
            after = await client.ask("POST", CHAT, body=msgspec.json.encode(HI))
            assert (await client.reply(after)).status == "200"


async def test_what_a_request_that_is_reset_has_written_still_goes_out() -> None:
    """Heads are compressed one upon the other: without one that was lost those behind it are read wrong."""
    text = "x" * 1000
    engine = FakeEngine(script=say(*[text] * 10_000))
    async with serving(make_services(engine)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            running = await client.ask("POST", CHAT, body=STREAM)
            await trio.testing.wait_all_tasks_blocked(0.01)  # nobody reads, so the socket is full
            left = await client.ask("GET", "/health")
            await trio.testing.wait_all_tasks_blocked(0.01)  # its head waits for the socket
            await client.reset(left)
            await trio.testing.wait_all_tasks_blocked(0.01)
            after = await client.ask("GET", "/health")
            assert (await client.reply(after)).headers["content-type"].startswith("application/json")
            assert (await client.reply(running)).body.count(text.encode()) == 10_000


async def test_a_request_that_nobody_reads_any_more_does_not_stop_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after an error that nobody caught, before the reply that says so is out."""
    failed = trio.Event()

    async def read_nothing(self: object, nursery: trio.Nursery, request: object, receive: object) -> None:
        await failed.wait()
        raise ValueError

    monkeypatch.setattr("api.http.ApiApp.asgi_http_class.handle_messages", read_nothing)
    async with serving(make_services()) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            unread = await client.ask("POST", CHAT, body=bytes(MIB))
            after = await client.ask("GET", "/health")
            assert (await client.reply(after)).status == "200"
            failed.set()
            assert (await client.reply(unread)).status == "500"


async def test_a_client_that_takes_no_more_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[Http2Buffer] = []
    begin = Http2Buffer.__init__

    def recorded(self: Http2Buffer, event_class: type) -> None:
        buffers.append(self)
        begin(self, event_class)

    monkeypatch.setattr(Http2Buffer, "__init__", recorded)
    text, window = "x" * 1000, 50_000
    async with serving(make_services(FakeEngine(say(*[text] * 1000)))) as url:
        client = await Http2Client.connect(url, window=window)
        async with client.stream:
            slow = await client.ask("POST", CHAT, body=STREAM)
            await client.until(lambda: len(client.replies[slow].body) == window)
            after = await client.ask("GET", "/health")
            assert (await client.reply(after)).status == "200"
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(buffers[0].buffer) < 100_000, "much waits that nobody takes"
            client.connection.increment_flow_control_window(MAX_WINDOW - window, slow)
            await client.flush()
            assert (await client.reply(slow)).body.count(text.encode()) == 1000


async def test_a_stream_tells_its_rate_to_who_takes_trailers() -> None:
    async with serving(make_services()) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            for body in (STREAM, msgspec.json.encode(HI)):
                for te in ({}, {"te": "trailers"}):
                    reply = await client.reply(await client.ask("POST", CHAT, body=body, **te))
                    rate = {"x-response-tokens-per-second": "100.000"}
                    assert reply.trailers == (rate if te and body is STREAM else {})
                    assert (rate.items() <= reply.headers.items()) is (body is not STREAM)


@pytest.mark.parametrize(
    "head",
    [
        [(":method", "GET"), (":path", "/é"), (":scheme", "http"), (":authority", "test")],
        [(":method", "CONNECT"), (":authority", "test")],
    ],
    ids=["path", "tunnel"],
)
async def test_a_head_that_hypercorn_cannot_read_is_one_requests_fault(head: list[tuple[str, str]]) -> None:
    async with serving(make_services()) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            wrong = await client.ask_with(head, body=b"")
            assert (await client.reply(wrong)).status == "400"
            wrong = await client.ask_with(head, body=bytes(MIB))
            assert (await client.reply(wrong)).status == "400"
            left = client.connection.get_next_available_stream_id()
            client.connection.send_headers(left, head)
            await client.reset(left)  # in the same bytes
            after = await client.ask("GET", "/health")
            assert (await client.reply(after)).status == "200"
