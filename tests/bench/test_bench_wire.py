"""The parsers of the load client, fed in every way the network may cut the bytes."""

import pytest

from tools.bench.wire import EventParser, ProtocolError, ResponseParser

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n"
    b"4\r\nabcd\r\n3;note=1\r\nefg\r\n0\r\nx-a: 1\r\n\r\n"
)
SIZED = b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\nX-Request-ID: 7\r\n\r\nhello"
EVENTS = b': ping\n\ndata: {"a":1}\n\nevent: x\r\ndata: one\r\ndata:two\r\n\r\nerror: bad\n\nid: 3\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("cut", range(len(CHUNKED)))
def test_a_chunked_response_parses_the_same_wherever_it_is_cut(cut: int) -> None:
    parser = ResponseParser()
    body = b"".join([*parser.feed(CHUNKED[:cut]), *parser.feed(CHUNKED[cut:])])
    assert (parser.status, body, parser.done) == (200, b"abcdefg", True)


@pytest.mark.parametrize("cut", range(len(SIZED)))
def test_a_sized_response_parses_the_same_wherever_it_is_cut(cut: int) -> None:
    parser = ResponseParser()
    body = b"".join([*parser.feed(SIZED[:cut]), *parser.feed(SIZED[cut:])])
    assert (parser.status, body, parser.done) == (503, b"hello", True)
    assert parser.headers["x-request-id"] == "7"


def test_an_empty_body_is_complete_at_once() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") == []
    assert parser.done


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nabc") == [b"abc"]
    assert not parser.done
    parser.finish()
    assert parser.done


@pytest.mark.parametrize("length", [0, 10, len(CHUNKED) - 1])
def test_a_connection_closed_too_early_is_an_error(length: int) -> None:
    parser = ResponseParser()
    parser.feed(CHUNKED[:length])
    with pytest.raises(ProtocolError, match="closed in the middle"):
        parser.finish()


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_something_else_than_http_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an HTTP"):
        ResponseParser().feed(data)


def test_a_bad_chunk_size_is_an_error() -> None:
    parser = ResponseParser()
    with pytest.raises(ProtocolError, match="not a chunk size"):
        parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")


@pytest.mark.parametrize("cut", range(len(EVENTS)))
def test_events_parse_the_same_wherever_they_are_cut(cut: int) -> None:
    parser = EventParser()
    events = [*parser.feed(EVENTS[:cut]), *parser.feed(EVENTS[cut:])]
    assert events == [b'{"a":1}', b"one\ntwo", b"bad", b"[DONE]"]


def test_data_wins_over_an_error_line_of_the_same_event() -> None:
    assert EventParser().feed(b'error: {"x":1}\ndata: {"error":1}\n\n') == [b'{"error":1}']
