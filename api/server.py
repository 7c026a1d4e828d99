"""Connections: serves an ASGI app by Hypercorn's protocols, ends cleanly.

Hypercorn's own ``serve`` offers no way to end a connection whose client has stopped reading (its send is shielded),
nor two idle limits; so the connections are served here and everything above TCP stays Hypercorn's.
"""

import logging
import socket
from functools import partial
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from api.connection import Connection
from llamabox.settings import ServerSettings

log = logging.getLogger("api.server")

# After the engine's end a connection has this long to send what is left.
_LINGER: Final = 2.0


class HttpServer:
    """Serves ``app`` on listening sockets until ``stop``."""

    def __init__(self, app: QuartTrio, sockets: list[socket.socket], settings: ServerSettings) -> None:
        self._app = app
        self._sockets = sockets
        self._settings = settings
        self._stop = trio.Event()
        self.ended = trio.Event()  # the last connection is gone
        self._streams: set[Any] = set()
        self._config = _config(settings)
        self._context = WorkerContext(None)

    def stop(self) -> None:
        """Accept no more; connections end when their response has, at the latest after two seconds."""
        self._stop.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``stop``; returns when the last connection is gone."""
        asgi = wrap_app(self._app, 0, "asgi")
        async with trio.open_nursery() as nursery:
            self._app.nursery = nursery
            await self._app.startup()
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    handler = partial(self._serve_connection, asgi)
                    accepting.start_soon(
                        partial(trio.serve_listeners, handler, self._listeners(), handler_nursery=connections)
                    )
                    task_status.started()
                    await self._stop.wait()
                    accepting.cancel_scope.cancel()
                await self._context.terminated.set()
                nursery.start_soon(self._end_connections)
            nursery.cancel_scope.cancel()
        self.ended.set()

    async def _end_connections(self) -> None:
        await trio.sleep(_LINGER)
        for stream in tuple(self._streams):
            transport = getattr(stream, "transport_stream", stream)
            try:
                transport.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # gone by itself

    async def _serve_connection(self, asgi: Any, stream: Any) -> None:
        self._streams.add(stream)
        try:
            await Connection(self._settings.idle_timeout, asgi, self._config, self._context, stream)
        except Exception:
            # One broken connection must not end the others.
            log.exception("a connection failed")
        finally:
            self._streams.discard(stream)

    def _listeners(self) -> list[trio.abc.Listener[Any]]:
        plain = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in self._sockets]
        context = self._config.create_ssl_context()
        if context is None:
            return list(plain)
        return [trio.SSLListener(listener, context, https_compatible=True) for listener in plain]


def _config(settings: ServerSettings) -> Config:
    config = Config()
    config.certfile = settings.ssl_cert_file
    config.keyfile = settings.ssl_key_file
    config.keep_alive_timeout = settings.keepalive_timeout
    config.keep_alive_max_requests = 2**31
    # Requests read all that comes, at once. One that has failed does not, and must not stop its connection's reader.
    config.max_app_queue_size = 2**31
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("api.hypercorn")
    return config
