"""The texts are shared out, the vectors put back in order, and compared as the targets are written."""

import json

import pytest
import trio

from tools.bench.embed import CLIENTS, ONE_REQUEST, cosine, cost_of, embed, main, rank, vectors
from tools.bench.load import Address, LoadError


async def answer_all(stream: trio.SocketStream) -> None:
    """A server whose vector of a text is its number, and whose score is the document's length."""
    async with stream:
        buffer = b""
        while data := await stream.receive_some():
            buffer += data
            head, found, body = buffer.partition(b"\r\n\r\n")
            if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
                continue
            asked, buffer = json.loads(body), b""
            if "query" in asked:
                results = [{"index": n, "relevance_score": len(d)} for n, d in enumerate(asked["documents"])]
                reply = {"results": results[::-1]}
            else:
                data = [{"index": n, "embedding": [int(text)]} for n, text in enumerate(asked["input"])]
                reply = {"data": data[::-1]}
            payload = json.dumps(reply).encode()
            status = b"400 Bad Request" if "-1" in asked.get("input", ()) else b"200 OK"
            await stream.send_all(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(payload), payload))


@pytest.fixture
async def address(nursery: trio.Nursery) -> Address:
    (listener, *_) = await nursery.start(trio.serve_tcp, answer_all, 0)
    return Address("127.0.0.1", listener.socket.getsockname()[1])


@pytest.mark.parametrize(("requests", "clients"), [(1, 1), (CLIENTS, CLIENTS), (30, CLIENTS)])
async def test_vectors_come_back_in_the_order_of_the_texts(address: Address, requests: int, clients: int) -> None:
    rate, found = await embed(address, [str(n) for n in range(30)], requests, clients)
    assert found == [[n] for n in range(30)]
    assert rate > 0


async def test_scores_come_back_in_the_order_of_the_documents(address: Address) -> None:
    _, scores = await rank(address, "q", ["a", "aaa", "aa"])
    assert scores == [1, 3, 2]


async def test_a_refusal_is_an_error(address: Address) -> None:
    with pytest.RaisesGroup(LoadError, allow_unwrapped=True, flatten_subgroups=True):
        await embed(address, ["-1"], 1, 1)


def test_vectors_are_sorted_by_index() -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    assert vectors(json.dumps({"data": data}).encode()) == [[1.0], [2.0]]


def test_cosine() -> None:
    assert cosine([1.0, 0.0], [2.0, 0.0]) == 1.0
    assert cosine([1.0, 0.0], [0.0, 1.0]) == 0.0


@pytest.mark.parametrize("arguments", [[], ["--model", "x", "--rounds", "0"], ["--model", "x", "--texts", "1"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "error" in capsys.readouterr().err


def test_the_processor_time_is_compared_the_other_way_round() -> None:
    assert cost_of(ONE_REQUEST).comparison.apply(2.0, 3.0) == 1.5
    assert ONE_REQUEST.comparison.apply(3.0, 2.0) == 1.5
