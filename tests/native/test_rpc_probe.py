"""What listens at an endpoint, told apart before the library ends the process over it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.errors import RpcError
from engine.native.rpc_probe import IMAGES, TEXT, Endpoint, addresses, answers, check_distinct, parse_endpoint, probe

HELLO_NOW = bytes([14]) + struct.pack("<Q", 24) + bytes(24)
HELLO_OLD = bytes([14]) + struct.pack("<Q", 0)


def answer(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def version(*numbers: int) -> bytes:
    return answer(bytes([*numbers, 0]) + bytes(24))


@contextmanager
def service(*answers: bytes | None) -> Iterator[tuple[Endpoint, list[bytes]]]:
    """Gives each client its answer and hangs up, None: without reading. And what the clients said."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for content in answers:
                connection, _ = listening.accept()
                with connection:
                    if content is not None:
                        heard.append(connection.recv(100))
                        connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Endpoint("127.0.0.1", listening.getsockname()[1]), heard
        finally:
            thread.join()


def test_a_server_of_this_release_is_fine() -> None:
    with service(version(TEXT.major, TEXT.minor, 9)) as (endpoint, heard):
        probe(endpoint)
    assert heard == [HELLO_NOW]
    with service(answer(bytes([IMAGES.major, IMAGES.minor, 9]))) as (endpoint, heard):
        probe(endpoint, protocol=IMAGES)
    assert heard == [HELLO_OLD]


@pytest.mark.parametrize("numbers", [(TEXT.major + 1, 0, 0), (TEXT.major - 1, 0, 0), (TEXT.major, TEXT.minor + 1, 0)])
def test_another_version_is_refused(numbers: tuple[int, int, int]) -> None:
    with service(version(*numbers)) as (endpoint, _), pytest.raises(RpcError) as caught:
        probe(endpoint)
    assert str(caught.value).startswith(f"RPC server {endpoint}: it speaks version {'.'.join(map(str, numbers))} of")


def test_the_image_librarys_protocol_is_recognised() -> None:
    """It knows only hellos without content, and hangs up on others."""
    with service(b"", answer(bytes([3, 6, 1]))) as (endpoint, heard), pytest.raises(RpcError) as caught:
        probe(endpoint)
    assert heard == [HELLO_NOW, HELLO_OLD]
    assert "version 3.6.1" in str(caught.value)
    assert "image library" in str(caught.value)


@pytest.mark.parametrize("numbers", [(IMAGES.major, IMAGES.minor + 1, 0), (IMAGES.major - 1, 0, 0)])
def test_another_version_is_refused_for_images(numbers: tuple[int, int, int]) -> None:
    with service(answer(bytes(numbers))) as (endpoint, _), pytest.raises(RpcError) as caught:
        probe(endpoint, protocol=IMAGES)
    assert f"it speaks version {'.'.join(map(str, numbers))} of the protocol, this engine 3.6" in str(caught.value)


def test_a_server_for_text_is_recognised_by_who_wants_images() -> None:
    """It knows only hellos with content, and hangs up on others."""
    with service(b"", version(TEXT.major, TEXT.minor, 0)) as (endpoint, heard), pytest.raises(RpcError) as caught:
        probe(endpoint, protocol=IMAGES)
    assert heard == [HELLO_OLD, HELLO_NOW]
    assert "serves text models: for image models it is started with --images" in str(caught.value)


def test_one_server_under_two_names_is_refused() -> None:
    check_distinct([Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2)])
    with pytest.raises(RpcError, match="the same server as localhost:1"):
        check_distinct([Endpoint("localhost", 1), Endpoint("127.0.0.1", 1)])


@pytest.mark.parametrize("banner", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_another_service_is_recognised(banner: bytes) -> None:
    with service(banner) as (endpoint, _), pytest.raises(RpcError, match="something else listens"):
        probe(endpoint)


@pytest.mark.parametrize("end", [b"", None, b"\x1c"], ids=["hangs up", "resets", "in the middle"])
def test_who_hangs_up_is_no_server(end: bytes | None) -> None:
    with service(end, end) as (endpoint, _), pytest.raises(RpcError, match="hangs up on a hello"):
        probe(endpoint)


def test_silence_ends_after_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        endpoint = Endpoint("127.0.0.1", busy.getsockname()[1])
        with pytest.raises(RpcError, match=r"does not answer within 0\.05 s; .* another one may be using it"):
            probe(endpoint, 0.05)
        assert answers(endpoint)
    assert not answers(endpoint)
    with pytest.raises(RpcError, match="cannot connect: Connection refused"):
        probe(endpoint)


def test_names_without_an_ipv4_address_are_refused() -> None:
    with pytest.raises(RpcError, match="no IPv4 address"):
        addresses(Endpoint("nowhere.invalid", 1))


def test_endpoints_are_read() -> None:
    assert parse_endpoint(" worker-1.local:50052 ") == Endpoint("worker-1.local", 50052)
    assert str(parse_endpoint("10.0.0.2:1")) == "10.0.0.2:1"
