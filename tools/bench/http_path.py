"""What HTTP costs: the whole path from socket to socket, over an engine that costs nothing.

Prints the processor time of the server's thread, so that the client, another process, does not count.
"""

import argparse
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from api.app import create_app
from api.listen import bind_sockets
from api.server import HttpServer
from engine.embedding.requests import EmbeddingInfo, RankFormat
from engine.native.options import Pooling
from tests.api.conftest import make_services
from tests.api.fake_engine import make_info, say
from tools.bench import bare_stream
from tools.bench.step_engine import StepEngine

_VECTOR = [0.05] * 384
_CHAT = '{"messages":[{"role":"user","content":"hi"}],"stream":true}'
_VECTORS = '{"input":"a text of a dozen words, as short as queries mostly are today"}'

# Arguments: port, path, body, connections, requests of each. A reply ends with its last chunk or its length.
_CLIENT = r"""
import socket, sys, threading
port, path, body, connections, requests = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
def read(client):
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, data = data.partition(b"\r\n\r\n")
    sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    if sizes:
        while len(data) < int(sizes[0].split(b":")[1]):
            data += client.recv(65536)
    while not sizes and not data.endswith(b"0\r\n\r\n"):
        data = data[-16:] + client.recv(65536)
def work():
    with socket.create_connection(("127.0.0.1", port)) as client:
        for _ in range(requests):
            client.sendall((head + body).encode())
            read(client)
threads = [threading.Thread(target=work) for _ in range(connections)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a round: token events per second of a core, and milliseconds of a core a short request."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=400, help="of each stream")
    parser.add_argument("--requests", type=int, default=100, help="for vectors, of each of 8 connections")
    args = parser.parse_args(arguments)
    trio.run(measure, args.rounds, args.streams, args.tokens, args.requests, _say)
    return 0


def _say(number: int, events: float, request: float) -> None:
    print(f"round {number + 1}: {events:,.0f} token events/s, {request:.3f} ms a short request", flush=True)


async def measure(
    rounds: int, streams: int, tokens: int, requests: int, tell: Callable[[int, float, float], None]
) -> None:
    """``tell`` gets each round's number, token events per second of a core, and milliseconds of a core a request."""
    async with _serving(tokens) as port:
        for number in range(rounds):
            events = await _events(port, streams, tokens)
            seconds = await _load(port, "/v1/embeddings", _VECTORS, 8, requests)
            tell(number, events, seconds / (8 * requests) * 1e3)


async def beside_bare(rounds: int, streams: int, tokens: int) -> list[float]:
    """Our events per second of a core / those of bytes through sockets (``bare_stream``), of each round, in turns."""
    ratios: list[float] = []
    async with _serving(tokens) as ours, bare_stream.serving(tokens) as bare:
        for _ in range(rounds):
            least = await _events(bare, streams, tokens)
            ratios.append(await _events(ours, streams, tokens) / least)
    return ratios


@asynccontextmanager
async def _serving(tokens: int) -> AsyncIterator[int]:
    """Our server at the port that is given; each stream gets so many tokens."""
    texts = [f" word{i % 7}" for i in range(tokens)]
    engine = StepEngine(script=say(*texts), info=make_info(), embedding=_embedding(), vector_of=lambda tokens: _VECTOR)
    services = make_services(engine, hosts=("127.0.0.1",), port=0)
    bound = bind_sockets(services.settings.server)
    port = bound.sockets[0].getsockname()[1]
    server = HttpServer(create_app(services), bound.sockets, services.settings.server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await nursery.start(server.run)
        yield port
        server.stop()
        nursery.cancel_scope.cancel()
    bound.close()


async def _events(port: int, streams: int, tokens: int) -> float:
    """Events a second of a core: of each stream so many tokens and two more."""
    return streams * (tokens + 2) / await _load(port, "/v1/chat/completions", _CHAT, streams, 1)


async def _load(port: int, path: str, body: str, connections: int, requests: int) -> float:
    """Processor seconds of this thread while a client process gets its replies."""
    began = time.thread_time()
    arguments = [str(port), path, body, str(connections), str(requests)]
    await trio.run_process([sys.executable, "-c", _CLIENT, *arguments])
    return time.thread_time() - began


def _embedding() -> EmbeddingInfo:
    formats = RankFormat(template=None, before=(), between=(), after=())
    return EmbeddingInfo(
        pooling=Pooling.MEAN,
        n_embd=len(_VECTOR),
        n_vocab=make_info().n_vocab,
        max_tokens=512,
        n_batch=512,
        n_seqs=8,
        splittable=False,
        rank=formats,
    )
