"""A client that costs the machine little: HTTP/1.1 and server-sent events on Trio sockets."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tools.bench.prompts import Message
from tools.bench.wire import EventParser, ResponseParser

RECEIVE_BYTES = 65536


class LoadError(Exception):
    """A server answered something other than what was asked for."""


@attrs.frozen
class Address:
    """Where a server listens."""

    host: str
    port: int


@attrs.define
class Recording:
    """One streamed completion as its client saw it. Times in seconds of Trio's clock."""

    sent: float = 0.0
    arrivals: list[float] = attrs.field(factory=list)  # one entry for each event that carried text
    text: str = ""
    prompt_tokens: int = 0  # as the server counts them, like the next two
    cached_tokens: int = 0
    completion_tokens: int = 0
    ended: bool = False
    _more: trio.Event = attrs.field(factory=trio.Event)

    @property
    def time_to_first(self) -> float:
        """Seconds from sending the request to the first text."""
        return self.arrivals[0] - self.sent

    @property
    def decode_rate(self) -> float:
        """Tokens per second after the first token."""
        return (self.completion_tokens - 1) / (self.arrivals[-1] - self.arrivals[0])

    async def reached(self, count: int) -> None:
        """Return once ``count`` events with text have arrived. Raises LoadError when the stream ends before."""
        while len(self.arrivals) < count:
            if self.ended:
                msg = f"a stream ended after {len(self.arrivals)} events, {count} were needed"
                raise LoadError(msg)
            await self._more.wait()

    def note(self, text: str) -> None:
        """Text arrived now."""
        self.arrivals.append(trio.current_time())
        self.text += text
        self._wake()

    def end(self) -> None:
        """The stream is complete."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = trio.Event()


def encode_request(method: str, path: str, address: Address, body: object = None) -> bytes:
    """A whole request as bytes; ``body`` becomes JSON."""
    payload = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nContent-Length: {len(payload)}\r\n"
    kind = "Content-Type: application/json\r\n" if payload else ""
    return f"{head}{kind}\r\n".encode() + payload


def chat_body(
    messages: Sequence[Message], max_tokens: int, fields: Mapping[str, Any] | None = None, *, stream: bool = True
) -> dict[str, Any]:
    """A greedy chat completion of exactly ``max_tokens`` tokens; ``fields`` are more, or win over these."""
    body: dict[str, Any] = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return body | streamed | dict(fields or {})


@asynccontextmanager
async def connection(address: Address) -> AsyncIterator[trio.SocketStream]:
    """A TCP connection, closed on the way out."""
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        yield stream


async def exchange(stream: trio.SocketStream, request: bytes) -> tuple[int, bytes]:
    """Send a request and read its answer: (status, body). The connection can be used again. Raises ProtocolError."""
    await stream.send_all(request)
    parser, body = ResponseParser(), bytearray()
    while not parser.done:
        data = await stream.receive_some(RECEIVE_BYTES)
        for piece in parser.feed(data):
            body += piece
        if not data:
            parser.finish()
    return parser.status, bytes(body)


async def request(address: Address, method: str, path: str, body: object = None) -> bytes:
    """One request on a connection of its own; the body of the answer. Raises LoadError when the status is not 200."""
    async with connection(address) as stream:
        status, answer = await exchange(stream, encode_request(method, path, address, body))
    if status != 200:
        msg = f"{method} {path}: status {status}: {answer[:300]!r}"
        raise LoadError(msg)
    return answer


async def chat(
    address: Address,
    messages: Sequence[Message],
    max_tokens: int,
    recording: Recording,
    fields: Mapping[str, Any] | None = None,
) -> Recording:
    """Stream a chat completion into ``recording``. Raises LoadError when it fails or is not what was asked for."""
    async with connection(address) as stream:
        recording.sent = trio.current_time()
        body = chat_body(messages, max_tokens, fields)
        await stream.send_all(encode_request("POST", "/v1/chat/completions", address, body))
        try:
            complete = await _receive(stream, recording)
        finally:
            recording.end()
    if not complete:
        msg = "a stream ended without [DONE]"
        raise LoadError(msg)
    exact = not body["ignore_eos"] or recording.completion_tokens == max_tokens
    if not exact or not recording.arrivals:
        msg = f"asked for {max_tokens} tokens, got {recording.completion_tokens} in {len(recording.arrivals)} events"
        raise LoadError(msg)
    return recording


async def _receive(stream: trio.SocketStream, recording: Recording) -> bool:
    """Read the event stream; whether it ended as it should."""
    response, events, complete = ResponseParser(), EventParser(), False
    while not response.done:
        data = await stream.receive_some(RECEIVE_BYTES)
        for piece in response.feed(data):
            if response.status != 200:
                msg = f"status {response.status}: {piece[:300]!r}"
                raise LoadError(msg)
            for event in events.feed(piece):
                complete = event == b"[DONE]"
                if not complete:
                    apply_event(json.loads(event), recording)
        if not data:
            response.finish()
    return complete


def apply_event(event: dict[str, Any], recording: Recording) -> None:
    """Take what one chunk of a stream tells. Raises LoadError for an error event."""
    if "error" in event or "choices" not in event:
        msg = f"a stream failed: {json.dumps(event)[:300]}"
        raise LoadError(msg)
    for choice in event["choices"]:
        delta = choice.get("delta") or {}
        if text := (delta.get("reasoning_content") or "") + (delta.get("content") or ""):
            recording.note(text)
    if usage := event.get("usage"):
        recording.prompt_tokens = usage["prompt_tokens"]
        recording.completion_tokens = usage["completion_tokens"]
        recording.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


async def tokens_per_word(address: Address, words: Sequence[str]) -> float:
    """How many tokens of this model a word of these takes."""
    answer = json.loads(await request(address, "POST", "/tokenize", {"content": " ".join(words)}))
    return len(answer["tokens"]) / len(words)


async def wait_idle(address: Address, seconds: float = 60.0) -> None:
    """Return once no slot is busy. Raises LoadError when that takes longer than ``seconds``."""
    with trio.move_on_after(seconds):
        while True:
            slots = json.loads(await request(address, "GET", "/slots"))
            if not any(slot["is_processing"] for slot in slots):
                return
            await trio.sleep(0.1)
    msg = f"slots are still busy after {seconds:g} s"
    raise LoadError(msg)
