"""A server of files on loopback that behaves as badly as it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@attrs.define
class Served:
    """A file. ``breaks``: after how many bytes of the body each next response breaks off, none left: it is whole."""

    content: bytes
    etag: str | None = None
    last_modified: str | None = None
    ranges: bool = True
    statuses: list[int] = attrs.field(factory=list)  # of the next responses; none left: 200, 206 or 416
    breaks: list[int] = attrs.field(factory=list)
    length: int | None = None  # Content-Length that is sent instead of the right one
    headers: dict[str, str] = attrs.field(factory=dict)
    head_status: int = 200
    redirect: str | None = None
    gate: threading.Event | None = None  # the body waits for it, after half of its bytes
    half_sent: threading.Event = attrs.field(factory=threading.Event)


@attrs.define
class FileServer:
    """``asked``: the requests so far, as (method, path, headers)."""

    files: dict[str, Served] = attrs.field(factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = attrs.field(factory=list)
    url: str = ""

    def gets(self, path: str) -> list[dict[str, str]]:
        """The headers of the GET requests for this path."""
        return [headers for method, asked, headers in self.asked if method == "GET" and asked == path]


class FileHandler(BaseHTTPRequestHandler):
    """Files by their paths."""

    protocol_version = "HTTP/1.1"
    timeout = 20  # a connection that is left open must not hang the test
    files: FileServer

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at ``asked``."""

    def do_HEAD(self) -> None:
        self._asked(body=False)

    def do_GET(self) -> None:
        self._asked(body=True)

    def _asked(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.files.asked.append((self.command, path, dict(self.headers)))
        self.answer(path, body=body)

    def answer(self, path: str, *, body: bool) -> None:
        """One response."""
        served = self.files.files.get(path)
        if served is None:
            self.plain(404)
        else:
            self.serve(served, body=body)

    def serve(self, served: Served, *, body: bool) -> None:
        """The file, in whatever way it is to be served."""
        if served.redirect is not None:
            self.plain(302, {"Location": served.redirect, **served.headers})
        elif not body and served.head_status != 200:
            self.plain(served.head_status)
        elif body and served.statuses and (status := served.statuses.pop(0)) not in {200, 206}:
            self.plain(status, served.headers)
        else:
            self._content(served, body=body)

    def plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        """A response without a body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, served: Served, *, body: bool) -> None:
        start = self._start(served) if body else 0
        total = len(served.content)
        if start >= total and start:
            self.plain(416, {"Content-Range": f"bytes */{total}"})
            return
        content = served.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if served.etag is not None:
            self.send_header("ETag", served.etag)
        if served.last_modified is not None:
            self.send_header("Last-Modified", served.last_modified)
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if served.length is None else served.length))
        self.end_headers()
        if body:
            self._send(served, content)

    def _start(self, served: Served) -> int:
        """The first byte that is wanted, provided that the content still is what the client has the beginning of."""
        unit, _, span = self.headers.get("Range", "").partition("=")
        wanted = self.headers.get("If-Range")
        if not served.ranges or unit != "bytes" or wanted not in {None, served.etag, served.last_modified}:
            return 0
        return int(span.removesuffix("-"))

    def _send(self, served: Served, content: bytes) -> None:
        if served.gate is not None:
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            served.half_sent.set()
            served.gate.wait()
            content = content[half:]
        if served.breaks:
            content = content[: served.breaks.pop(0)]
            self.close_connection = True
        try:
            self.wfile.write(content)
        except OSError:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    # Joined at the end, so that no thread is left behind.
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business."""


@contextmanager
def file_server[T: FileServer](handler: type[FileHandler], files: T) -> Iterator[T]:
    """A running server, whose files may be changed while it runs."""
    server = _Server(("127.0.0.1", 0), type("Handler", (handler,), {"files": files}))
    files.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        for served in files.files.values():
            if served.gate is not None:
                served.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
