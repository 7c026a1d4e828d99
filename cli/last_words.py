"""The end of a server whose native side can go on no further: clients are told, the log says why, the status too."""

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

from cli.workers import UNREACHABLE
from engine.native.rpc_probe import Endpoint, answers
from engine.native.rpc_watch import RpcWatch

log: Final = logging.getLogger("cli.serve")

ABORTED: Final = 70  # EX_SOFTWARE of sysexits.h: the native library gave up
_GRACE: Final = 4.0  # seconds for telling the clients, two of which a connection may take to send what is left
_ABOUT_SERVERS: Final = re.compile(r"RPC|Failed to connect to")


class LastWords:
    """Ends the process on behalf of native threads that must not return.

    The first reason counts. It is logged and announced; when ``told`` is called, or after four seconds, the process
    ends by its exit status.
    """

    def __init__(self, servers: Sequence[Endpoint], announce: Callable[[str], None]) -> None:
        """``announce`` is called on a foreign thread with a reason for clients."""
        self._servers = servers
        self._announce = announce
        self._watch: RpcWatch | None = None
        self._lock = threading.Lock()
        self._spoken = False
        self._told = threading.Event()

    def watch_servers(self) -> None:
        """Watch the connections to the RPC servers from now on: the model has been loaded."""
        if not self._servers:
            return
        self._watch = RpcWatch(self._servers, self.lost)
        count = self._watch.start()
        log.info("%d of %d RPC servers hold a part of the model", count, len(self._servers))

    def close(self) -> None:
        """The model is about to be freed."""
        with self._lock:
            watch, self._watch = self._watch, None
            if self._spoken:
                return  # the watching thread waits for the end of the process
        if watch is not None:
            watch.close()

    def told(self) -> None:
        """The clients know: nothing holds the process any more, should it be about to end."""
        self._told.set()

    def lost(self, servers: Sequence[Endpoint]) -> None:
        """The servers have hung up. Does not return to a process that goes on."""
        self._end(UNREACHABLE, f"{_named(servers)} is gone, and the part of the model that it held is lost")

    def aborted(self, message: str) -> None:
        """The native library gave up. See ``engine.native.abort``."""
        if not self._servers or not _ABOUT_SERVERS.search(message):
            self._end(ABORTED, f"the native library gave up: {message}")
            return
        watch = self._watch
        gone = (watch.hung_up() if watch else []) or [server for server in self._servers if not answers(server)]
        if gone:
            self.lost(gone)
        else:
            self._end(UNREACHABLE, f"an RPC server failed ({', '.join(map(str, self._servers))}): {message}")

    def _end(self, status: int, reason: str) -> None:
        with self._lock:
            if self._spoken:
                return
            self._spoken = True
        log.critical("%s", reason)
        self._announce(reason)
        self._told.wait(_GRACE)
        logging.shutdown()
        sys.stderr.flush()
        os._exit(status)


def _named(servers: Sequence[Endpoint]) -> str:
    return "RPC server " + ", ".join(map(str, servers))
