"""The watch over the library's connections, played with plain sockets; and the guard against bare aborts."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from engine.native.rpc_probe import Endpoint
from engine.native.rpc_watch import RpcWatch, process_sockets


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, Endpoint]]:
    """A client's socket, its server's, and the server's endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = Endpoint("127.0.0.1", listening.getsockname()[1])
        with socket.create_connection(("127.0.0.1", endpoint.port)) as client:
            server, _ = listening.accept()
            with server:
                yield client, server, endpoint


def test_a_hang_up_is_told_once(pair: tuple[socket.socket, socket.socket, Endpoint]) -> None:
    _, server, endpoint = pair
    told: list[list[Endpoint]] = []
    done = threading.Event()

    def lost(endpoints: list[Endpoint]) -> None:
        told.append(endpoints)
        done.set()

    watch = RpcWatch([endpoint, Endpoint("127.0.0.1", 1)], lost)
    assert watch.start() == 1
    assert watch.hung_up() == []
    server.shutdown(socket.SHUT_WR)
    assert done.wait(60)
    assert watch.hung_up() == [endpoint]
    watch.close()
    assert told == [[endpoint]]


def test_an_end_of_ours_is_no_loss(pair: tuple[socket.socket, socket.socket, Endpoint]) -> None:
    client, server, endpoint = pair
    watch = RpcWatch([endpoint], lambda _: pytest.fail("told"))
    assert watch.start() == 1
    server.sendall(b"an answer for the library")
    watch.close()
    watch.close()
    assert client.recv(100) == b"an answer for the library"


def test_silent_machines_will_be_noticed(pair: tuple[socket.socket, socket.socket, Endpoint]) -> None:
    client, _, endpoint = pair
    assert not client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    watch = RpcWatch([endpoint], lambda _: None)
    watch.start()
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
    watch.close()


def test_each_socket_of_the_process_is_seen_once(pair: tuple[socket.socket, socket.socket, Endpoint]) -> None:
    client, server, _ = pair
    found = [each.getsockname() for each in _closed(process_sockets())]
    assert found.count(client.getsockname()) == 1
    assert found.count(server.getsockname()) == 2  # and the listening one


def _closed(sockets: Iterator[socket.socket]) -> Iterator[socket.socket]:
    for each in sockets:
        with each:
            yield each


def test_an_abort_is_told_before_it_happens() -> None:
    code = """
import ctypes, os
from engine.native import library
from engine.native.abort import abort_guard
def told(message):
    print(message, flush=True)
    os._exit(70)
abort_guard.install(told)
library.ggml_function("ggml_abort", None, [ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p])(b"/src/a.cpp", 7, b"boom")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (70, "a.cpp:7: boom\n", "")
