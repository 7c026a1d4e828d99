"""Embeddings and rerank as their users meet them: the real MiniLM, tiny models, the OpenAI SDK."""

import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from tests.live.process import serving
from tests.models.minilm import write_minilm
from tests.models.tiny_bert import write_tiny_bert

CAT, FELINE = "The cat sits on the mat.", "A feline rests on a rug."
PARIS, CAPITAL = "Paris is the capital of France.", "The capital of France is Paris."
LOOKS = 5000  # at the figures, before a test gives up
STOCKS = "Quarterly earnings beat the analysts' expectations."


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = write_minilm(tmp_path_factory.mktemp("minilm") / "minilm.gguf")
    with serving("-m", str(path), "--embeddings", "--metrics", "--alias", "minilm") as (_, url):
        yield url


@pytest.fixture(scope="module")
def both(tiny_model: Path) -> Iterator[str]:
    """A generative model that embeds as well."""
    flags = ("--embeddings", "--pooling", "mean", "-c", "2048", "-np", "2", "--metrics")
    with serving("-m", str(tiny_model), *flags) as (_, url):
        yield url


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def test_meaning(minilm: str) -> None:
    with openai.OpenAI(base_url=f"{minilm}/v1", api_key="none", max_retries=0) as client:
        reply = client.embeddings.create(model="minilm", input=[CAT, FELINE, PARIS, CAPITAL, STOCKS])
        cat, feline, paris, capital, stocks = (entry.embedding for entry in reply.data)
        assert len(cat) == 384
        assert cosine(cat, feline) > 0.5
        assert cosine(paris, capital) > 0.85
        assert max(cosine(cat, stocks), cosine(paris, stocks), cosine(cat, paris)) < 0.1
        assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-5)
        plain = client.embeddings.create(model="minilm", input=CAT, encoding_format="float")
        assert cosine(plain.data[0].embedding, cat) > 0.9999
        short = client.embeddings.create(model="minilm", input=CAT, dimensions=64).data[0].embedding
        assert len(short) == 64
        assert np.linalg.norm(short) == pytest.approx(1.0, abs=1e-5)
        assert cosine(short, cat[:64]) > 0.9999
        with pytest.raises(openai.BadRequestError, match="512"):
            client.embeddings.create(model="minilm", input="word " * 600)


def test_many_texts_are_as_each_alone(minilm: str) -> None:
    texts = [f"Sentence number {n}: {CAT if n % 2 else STOCKS}" for n in range(40)]
    together = httpx.post(f"{minilm}/v1/embeddings", json={"input": texts}, timeout=60).json()
    for index in (0, 17, 39):
        alone = httpx.post(f"{minilm}/embedding", json={"content": texts[index]}, timeout=60).json()
        assert cosine(alone[0]["embedding"][0], together["data"][index]["embedding"]) >= 0.9999
    assert "llamabox:n_decode_total" in httpx.get(f"{minilm}/metrics").text


def test_an_embedding_model_writes_no_text(minilm: str) -> None:
    reply = httpx.post(f"{minilm}/v1/completions", json={"prompt": "a"})
    assert reply.status_code == 501
    assert "embedding model" in reply.json()["error"]["message"]
    assert httpx.post(f"{minilm}/tokenize", json={"content": "cat"}).json() == {"tokens": [4937]}


def test_embedding_while_a_stream_runs(both: str) -> None:
    """The same text comes out as without it, and the vectors arrive before the stream has ended."""
    body = {"prompt": "the cat", "max_tokens": 150, "temperature": 0, "ignore_eos": True, "stream": True}
    texts = [f"text {n} " * 4 for n in range(20)]
    alone = httpx.post(f"{both}/v1/completions", json=body, timeout=60).text
    with httpx.stream("POST", f"{both}/v1/completions", json=body, timeout=60) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        found: list[httpx.Response] = []
        embedder = threading.Thread(
            target=lambda: found.append(httpx.post(f"{both}/v1/embeddings", json={"input": texts}, timeout=60))
        )
        embedder.start()
        rest = [line for line in lines if line]
        embedder.join()
    assert found[0].status_code == 200
    assert len(found[0].json()["data"]) == 20
    pieces = [line.partition('"text":')[2].partition(",")[0] for line in (first, *rest)]
    expected = [line.partition('"text":')[2].partition(",")[0] for line in alone.split("\n") if line]
    assert "".join(pieces) == "".join(expected)


def test_a_client_that_leaves_stops_its_work(both: str) -> None:
    host, port = both.removeprefix("http://").split(":")
    body = httpx.Request("POST", both, json={"input": ["the cat sat on the mat " * 60] * 500}).content
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head + body)
        assert any(figure(both, "requests_processing") > 0 for _ in range(LOOKS)), "it never began"
    assert any(figure(both, "requests_processing") == 0 for _ in range(LOOKS)), "it never ended"
    assert figure(both, "prompt_tokens_total") < 500 * 300, "not everything was computed"
    assert httpx.post(f"{both}/v1/embeddings", json={"input": "still there"}, timeout=60).status_code == 200


def figure(url: str, name: str) -> float:
    for line in httpx.get(f"{url}/metrics", timeout=60).text.splitlines():
        if line.startswith(f"llamabox:{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no figure {name}")


def test_rerank(tmp_path: Path) -> None:
    path = write_tiny_bert(tmp_path / "rerank.gguf", rank=True)
    with serving("-m", str(path), "--rerank") as (server, url):
        assert "ranks documents" in server.log
        body = {"query": "the cat", "documents": ["the dog", {"text": "paris"}, "cat sat"]}
        raw = httpx.post(f"{url}/v1/rerank", json={**body, "normalize": False}).json()["results"]
        shown = httpx.post(f"{url}/v1/rerank", json=body).json()["results"]
        assert [r["index"] for r in raw] == [r["index"] for r in shown]
        scores = [r["relevance_score"] for r in raw]
        assert scores == sorted(scores, reverse=True)
        assert [r["relevance_score"] for r in shown] == pytest.approx([1 / (1 + np.exp(-s)) for s in scores])
        for index in range(3):
            one = {**body, "documents": [body["documents"][index]], "normalize": False}
            (alone,) = httpx.post(f"{url}/rerank", json=one).json()["results"]
            (same,) = (r for r in raw if r["index"] == index)
            assert alone["relevance_score"] == pytest.approx(same["relevance_score"], abs=1e-4)
        refused = httpx.post(f"{url}/v1/embeddings", json={"input": "a"})
        assert refused.status_code == 501
