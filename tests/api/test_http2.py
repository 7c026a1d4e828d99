"""Over HTTP/2 one connection serves many requests: what becomes of one of them leaves the others alone."""

import msgspec
import pytest
import trio
from h2.errors import ErrorCodes

from api.http2 import Http2Buffer
from tests.api.conftest import make_services
from tests.api.fake_engine import FakeEngine, say
from tests.api.http2 import MAX_WINDOW, PATIENCE, Http2Client
from tests.api.test_loopback import CHAT, HI, TEXT, serving

STREAM = msgspec.json.encode({**HI, "stream": True})
MIB = 1 << 20
WEBSOCKET = [
    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", CHAT), (":authority", "test"),
]  # fmt: skip


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


# --- clients that say goodbye ---


async def test_what_runs_when_the_client_says_goodbye_runs_to_its_end() -> None:
    """With what it still has to say: the rest of a body, how much it takes."""
    text = "x" * 1000
    gate = trio.Event()
    engine = FakeEngine(lambda request: [TEXT, gate, *say(*[text] * 100)(request)])
    async with serving(make_services(engine, keepalive_timeout=0.05)) as url:
        client = await Http2Client.connect(url, window=1000)
        async with client.stream:
            running = await client.ask("POST", CHAT, body=STREAM)
            await client.until(lambda: b"He" in client.replies[running].body)
            asking = await client.ask("POST", CHAT, body=None)
            client.connection.send_data(asking, msgspec.json.encode(HI), end_stream=True)
            for number in (running, asking):
                client.connection.increment_flow_control_window(MIB, number)
            await client.say_goodbye()
            gate.set()
            assert (await client.reply(running)).body.endswith(b"data: [DONE]\n\n")
            assert (await client.reply(asking)).status == "200"
            await client.closed()


@pytest.mark.parametrize("error", [ErrorCodes.NO_ERROR, ErrorCodes.PROTOCOL_ERROR, 99])
async def test_a_goodbye_closes_what_is_idle_and_what_is_broken(error: int) -> None:
    """At once."""
    engine = FakeEngine(lambda request: [TEXT, trio.Event()])
    async with serving(make_services(engine)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            if error != ErrorCodes.NO_ERROR:
                running = await client.ask("POST", CHAT, body=STREAM)
                await client.until(lambda: b"He" in client.replies[running].body)
            await client.say_goodbye(error)
            await client.closed()
    assert len(engine.closed) == len(engine.opened)


# --- connections that nobody uses ---


async def test_a_connection_whose_only_request_was_reset_waits_no_longer_than_others() -> None:
    engine = FakeEngine(lambda request: [TEXT, trio.Event()])
    async with serving(make_services(engine, keepalive_timeout=0.05)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            left = await client.ask("POST", CHAT, body=STREAM)
            await client.until(lambda: b"He" in client.replies[left].body)
            await client.reset(left)
            await client.closed()
    assert len(engine.closed) == 1


async def test_a_request_that_is_reset_leaves_the_connection_to_those_that_run() -> None:
    gate = trio.Event()
    engine = FakeEngine(lambda request: [TEXT, gate, *say("llo")(request)])
    async with serving(make_services(engine, keepalive_timeout=0.05)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            running, left = [await client.ask("POST", CHAT, body=STREAM) for _ in range(2)]
            await client.until(lambda: all(b"He" in reply.body for reply in client.replies.values()))
            await client.reset(left)
            await engine.closed_event.wait()
            await trio.testing.wait_all_tasks_blocked(0.1)  # twice as long as an idle connection is left alone
            gate.set()
            assert (await client.reply(running)).body.endswith(b"data: [DONE]\n\n")
            await client.closed()


async def test_a_connection_that_never_has_a_request_is_not_kept() -> None:
    """Its preface looks like one to whoever expects HTTP/1.1."""
    async with serving(make_services(keepalive_timeout=0.05)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            await client.closed()


@pytest.mark.parametrize("data", [b"", b"early"])
@pytest.mark.parametrize("version", ["13", "12", None])
async def test_a_websocket_is_refused_and_keeps_nothing(version: str | None, data: bytes) -> None:
    """Also where the handshake is none, and where its client does not wait for the answer."""
    head = WEBSOCKET if version is None else [*WEBSOCKET, ("sec-websocket-version", version)]
    async with serving(make_services(keepalive_timeout=0.05)) as url:
        client = await Http2Client.connect(url)
        async with client.stream:
            wanted = client.begin(head)
            if data:
                client.connection.send_data(wanted, data)  # in the same bytes
            await client.flush()
            reply = await client.reply(wanted)
            assert reply.status == "404"
            assert msgspec.json.decode(reply.body)["error"]["message"].endswith("no WebSockets")
            await client.closed()
    assert client.connection.remote_settings.enable_connect_protocol == 0


async def test_who_asks_for_a_websocket_and_leaves_leaves_no_task() -> None:
    """The answer has not gone out yet."""
    async with serving(make_services()) as url:
        await trio.testing.wait_all_tasks_blocked()  # the server's own tasks are all there
        before = trio.lowlevel.current_statistics().tasks_living
        client = await Http2Client.connect(url, window=0)
        wanted = await client.ask_with(WEBSOCKET, body=None)
        await client.until(lambda: client.replies[wanted].status == "404")
        assert not client.replies[wanted].body
        await client.stream.aclose()
        with trio.fail_after(PATIENCE):
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.testing.wait_all_tasks_blocked()
