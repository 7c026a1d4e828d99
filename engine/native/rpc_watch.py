"""Notices that an RPC server is gone, also while nobody uses it, and sees to it that a dead machine is noticed at all.

The library has one connection to each server for as long as its model is loaded, and looks at it only when it computes;
without an answer it would wait for ever. The same sockets are watched here: nothing is read from them, and no second
connection takes a place in the server's queue.
"""

import os
import select
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from engine.native.rpc_probe import Endpoint, addresses

# A machine that is switched off answers nothing: after 10 s of silence ask, after three questions give up.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000))
_DESCRIPTORS: Final = Path("/dev/fd")
# Errors and full closes are told without being asked for; a half-closed connection only by Linux.
_HALF_CLOSED: Final = getattr(select, "POLLRDHUP", 0)


class RpcWatch:
    """Watches the library's connections to ``endpoints`` on a thread of its own, from ``start`` to ``close``."""

    def __init__(self, endpoints: Sequence[Endpoint], on_lost: Callable[[list[Endpoint]], None]) -> None:
        """``on_lost`` is called once, on the watching thread, with the servers that have hung up."""
        self._endpoints = endpoints
        self._on_lost = on_lost
        self._sockets: dict[int, tuple[Endpoint, socket.socket]] = {}  # by descriptor, duplicates of the library's
        self._thread: threading.Thread | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()

    def start(self) -> int:
        """Begin to watch; to be called once the model is loaded. How many connections there are to watch."""
        by_address = {address: endpoint for endpoint in self._endpoints for address in addresses(endpoint)}
        for connection in process_sockets():
            endpoint = by_address.get(_peer(connection))
            if endpoint is None:
                connection.close()
                continue
            _keep_alive(connection)
            self._sockets[connection.fileno()] = endpoint, connection
        if self._sockets:
            # A daemon: when it has something to tell, it stays until the process has ended.
            self._thread = threading.Thread(target=self._watch, name="llama-box RPC watch", daemon=True)
            self._thread.start()
        return len(self._sockets)

    def hung_up(self) -> list[Endpoint]:
        """The servers that have hung up by now. Any thread."""
        poll = select.poll()
        for descriptor in self._sockets:
            poll.register(descriptor, _HALF_CLOSED)
        return [self._sockets[descriptor][0] for descriptor, _ in poll.poll(0)]

    def close(self) -> None:
        """Stop watching; to be called before the model is freed. Idempotent."""
        self._wake_writer.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._wake_reader.close()
        sockets, self._sockets = self._sockets, {}
        for _, connection in sockets.values():
            connection.close()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        for descriptor in self._sockets:
            poll.register(descriptor, _HALF_CLOSED)
        ready = {descriptor for descriptor, _ in poll.poll()}
        lost = [self._sockets[descriptor][0] for descriptor in ready if descriptor in self._sockets]
        if lost and self._wake_reader.fileno() not in ready:
            self._on_lost(lost)


def process_sockets() -> Iterator[socket.socket]:
    """Duplicates of this process's TCP sockets over IPv4, native code's included; the caller closes them."""
    copies: set[int] = set()  # the listing's own descriptor is in the list, and may have become one of them
    for descriptor in [int(path.name) for path in _DESCRIPTORS.iterdir()]:
        if descriptor in copies:
            continue
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            copy = socket.socket(fileno=os.dup(descriptor))
            copies.add(copy.fileno())
        except OSError:  # closed meanwhile
            continue
        if copy.family is socket.AF_INET and copy.type is socket.SOCK_STREAM:
            yield copy
        else:
            copy.close()


def _peer(connection: socket.socket) -> tuple[str, int]:
    try:
        host, port = connection.getpeername()
    except OSError:
        return "", 0
    return host, port


def _keep_alive(connection: socket.socket) -> None:
    """The options belong to the connection, so they hold for the library's descriptor too."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
