"""RPC servers of our own for the tests of models over several machines."""

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import attrs

from tests.live.process import ServerProcess, launch

type Client = AbstractContextManager[tuple[ServerProcess, str]]

LOOPBACK = "127.0.0.1"
LOST = 69  # the exit status of a server whose worker went away


@attrs.frozen
class Worker:
    """A running RPC server."""

    process: ServerProcess
    endpoint: str


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as trial:
        trial.bind((LOOPBACK, 0))
        return int(trial.getsockname()[1])


@contextmanager
def client(*arguments: str, holding: str) -> Iterator[tuple[ServerProcess, str]]:
    """A server and its URL; ``holding``: how many RPC servers hold its model. How it ends is the test's matter."""
    server = launch("--port", "0", *arguments)
    try:
        url = server.wait_for(r"listening on (\S+)")[1]
        server.wait_for(rf"{holding} RPC servers hold a part of the model")
        server.wait_for("ready after")
        yield server, url
    finally:
        server.end()


@contextmanager
def worker(*arguments: str, port: int | None = None) -> Iterator[Worker]:
    """An RPC server on loopback that listens; killed at the end unless it has ended."""
    port = port or free_port()
    process = launch("--rpc-server-host", LOOPBACK, "--rpc-server-port", str(port), *arguments)
    try:
        process.wait_for(r"listening on ")
        yield Worker(process, f"{LOOPBACK}:{port}")
    finally:
        process.end()


def check_loss(server: ServerProcess, servant: Worker, stream: str) -> None:
    """The server has ended because its worker went away: its log and what a stream got last say so."""
    assert server.wait() == LOST, server.log
    assert f"RPC server {servant.endpoint} is gone" in server.log
    assert "Traceback" not in server.log, server.log
    assert "error: " in stream
    assert "is gone" in stream
    assert "[DONE]" not in stream
