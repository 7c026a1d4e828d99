"""Fetches what a URL of a client points to, and is sent nowhere where the client could not go itself.

A name is resolved once, each address is looked at, and the connection is made to one of these addresses: a second
look-up could answer otherwise. Redirects are followed here, each like a URL of its own.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import attrs
import httpcore
import trio

from engine.errors import InvalidRequest
from llamabox.media.addresses import is_public

CONNECT_TIMEOUT: Final = 15.0  # seconds
TOTAL_TIMEOUT: Final = 60.0
MOST_BYTES: Final = 32 * 1024 * 1024
MOST_REDIRECTS: Final = 3
_OVERHEAD: Final = 1024 * 1024  # of headers and chunk marks
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final = {"http": 80, "https": 443}

type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name. Raises OSError."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _CappedStream(httpcore.AsyncNetworkStream):
    """Ends a response that does not end. From within: httpcore's generators are not to be left early."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MOST_BYTES + _OVERHEAD

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's
        data = await self._stream.read(max_bytes, timeout)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidRequest(f"the answer is larger than {MOST_BYTES >> 20} MiB")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's
    ) -> httpcore.AsyncNetworkStream:
        return _CappedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were looked at."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's protocol
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        with trio.fail_after(CONNECT_TIMEOUT):
            try:
                addresses = await self._resolve(host, port)
            except OSError as error:
                raise InvalidRequest(f"{host} cannot be resolved: {error.strerror or error}") from None
            if not self._allow_private and not all(map(is_public, addresses)):
                raise InvalidRequest(f"{host} is no public address (--allow-private-urls allows others)")
            failure: Exception = InvalidRequest(f"{host} has no address")
            for address in addresses:
                try:
                    stream = await self._trio.connect_tcp(address, port, CONNECT_TIMEOUT, local_address, socket_options)
                    return _CappedStream(stream)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    failure = error
            raise failure


@attrs.define(kw_only=True)
class Fetcher:
    """``allow_private``: any address will do. ``resolve`` and ``ssl_context`` are for tests."""

    allow_private: bool = False
    resolve: Resolve = resolve
    ssl_context: ssl.SSLContext | None = None

    async def fetch(self, url: str) -> bytes:
        """The body that the URL leads to. May be cancelled at any time. Raises InvalidRequest."""
        try:
            with trio.fail_after(TOTAL_TIMEOUT):
                for _ in range(MOST_REDIRECTS + 1):
                    answer = await self._get(url)
                    if isinstance(answer, bytes):
                        return answer
                    url = _joined(url, answer.url)
        except trio.TooSlowError:
            raise InvalidRequest(f"{_short(url)} took too long") from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise InvalidRequest(f"{_short(url)} could not be fetched: {error or type(error).__name__}") from None
        raise InvalidRequest(f"{_short(url)}: more than {MOST_REDIRECTS} redirects")

    async def _get(self, url: str) -> "bytes | _Elsewhere":
        backend = _CheckedBackend(self.resolve, allow_private=self.allow_private)
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self.ssl_context, network_backend=backend, http2=False, retries=0
            ) as pool,
            pool.stream(
                "GET",
                _checked(url),
                headers=[
                    (b"Host", _host_header(url)),
                    (b"Accept", b"image/*, audio/*"),
                    (b"Accept-Encoding", b"identity"),
                    (b"User-Agent", f"llama-box/{version('llama-box')}".encode()),
                ],
                extensions={"timeout": {"connect": CONNECT_TIMEOUT, "read": TOTAL_TIMEOUT, "write": TOTAL_TIMEOUT}},
            ) as response,
        ):
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return _Elsewhere(headers[b"location"].decode("latin-1"))
            if response.status != 200:
                raise InvalidRequest(f"{_short(url)} answered with status {response.status}")
            length = headers.get(b"content-length", b"")
            if length.isdigit() and (len(length) > 18 or int(length) > MOST_BYTES):
                raise _too_large(url)
            body = bytearray()
            async for part in response.aiter_stream():
                body += part
            if len(body) > MOST_BYTES:
                raise _too_large(url)
            return bytes(body)


@attrs.frozen
class _Elsewhere:
    url: str


def _joined(url: str, location: str) -> str:
    """Where a redirect from ``url`` leads. Raises InvalidRequest."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise InvalidRequest(f"{_short(url)} redirects to {_short(location)}, which is no URL") from None


def _checked(url: str) -> httpcore.URL:
    """The URL in parts. Raises InvalidRequest for one that is none of ours."""
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme) if parts.port is None else parts.port
        host = parts.hostname.encode("idna") if parts.hostname else b""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        raw_target = target.encode("ascii")
    except (ValueError, UnicodeError):
        raise InvalidRequest(f"{_short(url)} is no URL") from None
    if port == 0:
        raise InvalidRequest(f"{_short(url)} is no URL: there is no port 0")
    blank = any(byte <= 32 or byte == 127 for byte in raw_target)
    if parts.scheme not in _PORTS or not host or parts.username is not None or blank:
        raise InvalidRequest(f"{_short(url)} is no http or https URL of a host, or it names a user")
    return httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=raw_target)


def _host_header(url: str) -> bytes:
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna")
    name = b"[" + host + b"]" if b":" in host else host
    return name if parts.port is None else name + f":{parts.port}".encode()


def _too_large(url: str) -> InvalidRequest:
    return InvalidRequest(f"{_short(url)} is larger than {MOST_BYTES >> 20} MiB")


def _short(url: str) -> str:
    return url if len(url) <= 100 else f"{url[:100]}…"
