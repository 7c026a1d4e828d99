"""Listening sockets. Light to import: the port is taken before the rest of the server is there."""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

import attrs

from llamabox.settings import ServerSettings

_BACKLOG: Final = 1024


class BindError(Exception):
    """An address cannot be listened on; the text names it and says why."""


@attrs.frozen
class Listening:
    """Listening sockets, and the files of the unix ones among them."""

    sockets: list[socket.socket] = attrs.field(factory=list)
    paths: list[Path] = attrs.field(factory=list)

    def close(self) -> None:
        """Close the sockets and remove their files. Idempotent."""
        for sock in self.sockets:
            sock.close()
        for path in self.paths:
            path.unlink(missing_ok=True)


def bind_sockets(settings: ServerSettings) -> Listening:
    """Listen on all hosts of the settings. With port 0 all hosts get the port that the first one got.

    Raises BindError; nothing is left open then.
    """
    bound = Listening()
    port = settings.port
    for host in settings.hosts:
        is_path = host.endswith(".sock")
        try:
            if is_path:
                bound.sockets.append(_bind_unix(host))
                bound.paths.append(Path(host))
            else:
                bound.sockets.append(_bind_tcp(host, port, settings.timeout))
                port = port or bound.sockets[-1].getsockname()[1]
        except OSError as error:
            bound.close()
            where = host if is_path else f"{host}:{port}"
            raise BindError(f"cannot listen on {where}: {error.strerror or error}") from error
    return bound


def address_of(sock: socket.socket, *, tls: bool) -> str:
    """A URL for the log."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"


def _bind_tcp(host: str, port: int, timeout: float) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # The write timeout: accepted connections inherit it, and the kernel ends those that take nothing.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))
        sock.bind(address)
        return _listening(sock)
    except OSError:
        sock.close()
        raise


def _bind_unix(path: str) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        return _listening(sock)
    except OSError:
        sock.close()
        raise


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket file of a server that is gone; leave anything else alone."""
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            raise OSError(errno.EEXIST, "the file exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
