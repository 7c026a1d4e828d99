"""Through Hypercorn on a socket: headers, framing, and clients that leave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
import trio
from openai import OpenAI

from api.app import create_app
from api.listen import address_of, bind_sockets
from api.server import HttpServer
from engine.text.events import Timings, Tokens
from llamabox.services import Services
from tests.api.conftest import make_services
from tests.api.fake_engine import FakeEngine, say

CHAT = "/v1/chat/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}
TEXT = Tokens(text="He", tokens=(1,), slot=0, timings=Timings(predicted_n=1))


@asynccontextmanager
async def serving(services: Services) -> AsyncIterator[str]:
    """The server's base URL."""
    listening = bind_sockets(attrs.evolve(services.settings.server, hosts=("127.0.0.1",), port=0))
    server = HttpServer(create_app(services), listening.sockets, services.settings.server)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        try:
            yield address_of(listening.sockets[0], tls=False)
        finally:
            server.stop()
    listening.close()


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


async def test_whole_and_stream_over_the_wire() -> None:
    async with serving(make_services()) as url, httpx.AsyncClient(base_url=url) as client:
        whole = await client.post(CHAT, json=HI, headers={"X-Request-ID": "me"})
        assert whole.json()["choices"][0]["message"]["content"] == "Hello world"
        assert whole.headers.get_list("server") == ["llama-box/0.1.0"]
        assert whole.headers["x-request-id"] == "me"
        stream = await client.post(CHAT, json={**HI, "stream": True})
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.text.endswith("data: [DONE]\n\n")


async def test_openai_client() -> None:
    async with serving(make_services(api_keys=("secret",))) as url:
        await trio.to_thread.run_sync(_use_openai, f"{url}/v1")


def _use_openai(url: str) -> None:
    messages = HI["messages"]
    with OpenAI(base_url=url, api_key="secret", max_retries=0) as client:
        whole = client.chat.completions.create(model="tiny", messages=messages, logprobs=True)
        assert whole.choices[0].message.content == "Hello world"
        assert whole.choices[0].logprobs.content[0].token == "H"
        options = {"include_usage": True}
        chunks = list(
            client.chat.completions.create(model="tiny", messages=messages, stream=True, stream_options=options)
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello world"
        assert chunks[-1].usage.completion_tokens == 11
        assert client.completions.create(model="tiny", prompt="hi", logprobs=1).choices[0].text == "Hello world"
        assert [model.id for model in client.models.list().data] == ["tiny.gguf"]


async def test_openai_client_calls_tools() -> None:
    output = '<think>hm</think>\n<tool_call>\n{"name": "get", "arguments": {"a": "é"}}\n</tool_call>'
    async with serving(make_services(FakeEngine(say(*output)))) as url:
        await trio.to_thread.run_sync(_use_tools, f"{url}/v1")


def _use_tools(url: str) -> None:
    tools = [{"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}]
    asked = {"model": "tiny", "messages": HI["messages"], "tools": tools}
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(**asked).choices[0]
        with client.chat.completions.stream(**asked) as stream:
            streamed = stream.get_final_completion().choices[0]
        for choice in (whole, streamed):
            (call,) = choice.message.tool_calls
            assert (choice.finish_reason, call.type, call.id) == ("tool_calls", "function", "call_0")
            assert (call.function.name, call.function.arguments) == ("get", '{"a": "é"}')
            assert choice.message.reasoning_content == "hm"


async def test_events_leave_as_they_come() -> None:
    gate = trio.Event()
    engine = FakeEngine(lambda request: [TEXT, gate, *say("llo")(request)])
    async with serving(make_services(engine)) as url, httpx.AsyncClient(base_url=url) as client:
        async with client.stream("POST", "/completion", json={"prompt": "hi", "stream": True}) as reply:
            lines = reply.aiter_lines()
            assert '"content":"He"' in await anext(lines)
            gate.set()
            rest = [line async for line in lines]
        assert '"stop":true' in rest[-2]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_generation(stream: bool) -> None:
    engine = FakeEngine(lambda request: [TEXT, trio.Event()])
    services = make_services(engine)
    async with serving(services) as url:
        connection = await trio.open_tcp_stream(*_address(url))
        await connection.send_all(_post(CHAT, b'{"messages":[{"role":"user","content":"hi"}],"stream":%s}', stream))
        await engine.opened_event.wait()
        if stream:
            received = b""
            while b"He" not in received:
                received += await connection.receive_some()
        assert engine.closed == []
        await connection.aclose()
        with trio.fail_after(10):
            await engine.closed_event.wait()
    assert engine.closed == [engine.opened[0].id]
    assert len(services.running) == 0


async def test_a_client_that_leaves_during_a_silent_prefill() -> None:
    engine = FakeEngine(lambda request: [trio.Event()])
    async with serving(make_services(engine)) as url:
        connection = await trio.open_tcp_stream(*_address(url))
        await connection.send_all(_post(CHAT, b'{"messages":[{"role":"user","content":"hi"}],"n":3,"stream":%s}', True))
        await engine.opened_event.wait()
        await connection.aclose()
        with trio.fail_after(10):
            while len(engine.closed) < 3:
                await trio.lowlevel.checkpoint()


def _post(path: str, body: bytes, stream: bool) -> bytes:
    data = body % (b"true" if stream else b"false")
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def test_a_websocket_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    wanted = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    async with serving(make_services()) as url, httpx.AsyncClient(base_url=url) as client:
        for path in ("/health", "/nothing"):
            reply = await client.get(path, headers=wanted)
            assert reply.status_code == 404
            assert reply.json()["error"]["type"] == "not_found_error"
            assert reply.headers["x-request-id"]
        assert (await client.get("/health")).json() == {"status": "ok"}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("data", ["", "early"])
@pytest.mark.parametrize(
    "handshake", ["", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"]
)
async def test_a_websocket_that_is_none_is_refused_and_keeps_nothing(handshake: str, data: str) -> None:
    """The connection ends, as the answer says."""
    head = f"GET /health HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{handshake}\r\n"
    async with serving(make_services()) as url, await trio.open_tcp_stream(*_address(url)) as stream:
        await stream.send_all((head + data).encode())
        with trio.fail_after(10):
            reply = b"".join([part async for part in stream])
    assert reply.startswith(b"HTTP/1.1 404")
    assert b"\r\nconnection: close\r\n" in reply
