"""Looks at RPC servers before the library does, which ends the process when one is not as it expects.

The protocol: a client says hello first (command, length, capabilities) and is told the server's version. A server
accepts one client at a time; others wait in its listening socket's queue without an answer.
"""

import re
import socket
import struct
from collections.abc import Iterable
from typing import Final

import attrs

from engine.errors import RpcError

PATIENCE: Final = 5.0  # seconds for the connection, and again for the answer

_HELLO: Final = 14
_CAPABILITIES: Final = 24  # bytes; none set: plain TCP
_LENGTH: Final = struct.Struct("<Q")


@attrs.frozen
class Hello:
    """How a client says hello: the content, and how many bytes the answer has, which begins with the version."""

    content: bytes
    answer: int


_WITH_CAPABILITIES: Final = Hello(bytes(_CAPABILITIES), 4 + _CAPABILITIES)
_PLAIN: Final = Hello(b"", 3)  # before version 4 a hello had no content and its answer no capabilities


@attrs.frozen
class Protocol:
    """What a library speaks. ``hint`` says what a server may be that speaks another version."""

    major: int
    minor: int
    hello: Hello
    hint: str


TEXT: Final = Protocol(7, 0, _WITH_CAPABILITIES, "it belongs to another release, or serves the image library")
IMAGES: Final = Protocol(
    3, 6, _PLAIN, "it belongs to another release, or serves text models: for image models it is started with --images"
)


@attrs.frozen
class Endpoint:
    """Where an RPC server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """``HOST:PORT``. Raises ValueError; also for IPv6, which the library does not speak."""
    match = re.fullmatch(r"\s*([^\s:\[\]/]+):([0-9]{1,5})\s*", text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError(text)
    return Endpoint(match[1], int(match[2]))


def addresses(endpoint: Endpoint) -> list[tuple[str, int]]:
    """The IPv4 addresses of an endpoint. Raises RpcError when there are none."""
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RpcError(f"RPC server {endpoint}: no IPv4 address: {reason}") from None
    return [(str(address[0]), int(address[1])) for *_, address in found]


def check_distinct(endpoints: Iterable[Endpoint]) -> None:
    """Raise RpcError when two of them are the same server."""
    seen: dict[tuple[str, int], Endpoint] = {}
    for endpoint in endpoints:
        other = seen.setdefault(addresses(endpoint)[0], endpoint)
        if other != endpoint:
            raise RpcError(f"RPC server {endpoint}: the same server as {other}")


def probe(endpoint: Endpoint, patience: float = PATIENCE, protocol: Protocol = TEXT) -> None:
    """Raise RpcError unless a server that a library with this protocol can use answers at the endpoint."""
    address = addresses(endpoint)[0]
    answer = _ask(endpoint, address, protocol.hello, patience)
    if answer is None:  # hung up: servers of other versions know the other kind of hello only
        other = _PLAIN if protocol.hello is _WITH_CAPABILITIES else _WITH_CAPABILITIES
        answer = _ask(endpoint, address, other, patience)
    if answer is None:
        raise RpcError(f"RPC server {endpoint}: it hangs up on a hello, so it is something else than an RPC server")
    major, minor, patch = answer[:3]
    if len(answer) != protocol.hello.answer or major != protocol.major or minor > protocol.minor:
        raise RpcError(
            f"RPC server {endpoint}: it speaks version {major}.{minor}.{patch} of the protocol, this engine "
            f"{protocol.major}.{protocol.minor}: {protocol.hint}"
        )


def answers(endpoint: Endpoint, patience: float = 1.0) -> bool:
    """Whether somebody listens at the endpoint."""
    try:
        socket.create_connection(addresses(endpoint)[0], patience).close()
    except (OSError, RpcError):
        return False
    return True


def _ask(endpoint: Endpoint, address: tuple[str, int], hello: Hello, patience: float) -> bytes | None:
    """The answer to a hello, None if the server hung up. RpcError for silence and for other protocols."""
    try:
        connection = socket.create_connection(address, patience)
    except OSError as error:
        raise RpcError(f"RPC server {endpoint}: cannot connect: {error.strerror or error}") from None
    with connection:
        try:
            connection.sendall(bytes([_HELLO]) + _LENGTH.pack(len(hello.content)) + hello.content)
            head = _receive(connection, _LENGTH.size)
            if head is None:
                return None
            if _LENGTH.unpack(head)[0] != hello.answer:
                raise RpcError(f"RPC server {endpoint}: its answer is none of the RPC protocol: something else listens")
            return _receive(connection, hello.answer)
        except TimeoutError:
            raise RpcError(
                f"RPC server {endpoint}: it does not answer within {patience:g} s; a server serves one client at a "
                "time, so another one may be using it"
            ) from None
        except OSError:  # reset
            return None


def _receive(connection: socket.socket, size: int) -> bytes | None:
    """``size`` bytes, None when the other side ends before."""
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            return None
        received += piece
    return received
