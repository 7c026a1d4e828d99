"""Conversations that come back after others took their cells, over HTTP: ``--cache-ram`` and ``--cache-reuse``."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.process import launch, serving
from tests.live.test_adapters import assert_agree
from tests.models.tiny_llm import write_tiny_llm

GREEDY = {"temperature": 0, "ignore_eos": True, "return_tokens": True, "n_probs": 2}


def complete(client: httpx.Client, prompt: list[int], n_predict: int = 8, **fields: Any) -> dict[str, Any]:
    reply = client.post("/completion", json={"prompt": prompt, "n_predict": n_predict, **GREEDY, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def tokens_of(client: httpx.Client, text: str) -> list[int]:
    return client.post("/tokenize", json={"content": text, "add_special": True}).json()["tokens"]


def metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line.split() for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {line[0]: float(line[1]) for line in lines if len(line) == 2}


def come_back(client: httpx.Client, n_prompt: int, n_others: int) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A conversation's second turn when nobody came between, and when others did; and what it could have found."""
    story = tokens_of(client, "there were some of them who have been with us at that time and all the others " * 200)
    prompt = story[:n_prompt]
    first = complete(client, prompt)
    turn = [*prompt, *first["tokens"], *story[:10]]
    alone = complete(client, turn)
    assert alone["timings"]["cache_n"] == len(prompt) + len(first["tokens"]) - 1
    for number in range(n_others):
        complete(client, [*tokens_of(client, f"{number + 1} others"), *story[number + 1 :][: n_prompt - 10]], 1)
    return alone, complete(client, turn), len(turn)


@pytest.mark.parametrize("size", [256, 0])
def test_a_conversation_comes_back_on_the_tiny_model(tiny_model: Path, size: int) -> None:
    arguments = ("-m", str(tiny_model), "-np", "2", "-c", "2048", "-t", "1", "--metrics", "--cache-ram", str(size))
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        alone, again, length = come_back(client, 700, 3)
        assert_agree(alone, again)
        figures = metrics(client)
        if size == 0:
            assert again["timings"]["cache_n"] < 100
            assert figures["llamabox:host_cache_bytes"] == 0
            return
        assert again["timings"]["cache_n"] == length - 1
        assert again["tokens_cached"] >= length - 1
        assert figures["llamabox:host_cache_restored_tokens_total"] > 500
        assert 0 < figures["llamabox:host_cache_bytes"] <= size << 20


def test_a_conversation_comes_back_on_a_real_model(demo_model: Path) -> None:
    arguments = ("-m", str(demo_model), "-np", "1", "-c", "256", "--metrics")
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=120) as client:
        alone, again, length = come_back(client, 96, 2)
        assert_agree(alone, again)
        assert again["timings"]["cache_n"] == length - 1
        assert again["timings"]["prompt_n"] == 1
        assert metrics(client)["llamabox:host_cache_restored_tokens_total"] > 0


def test_a_prompt_that_lost_its_middle_takes_over_the_rest(tiny_model: Path) -> None:
    arguments = ("-m", str(tiny_model), "-np", "2", "-c", "2048", "-t", "1", "--cache-reuse", "32")
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        story = tokens_of(client, "there were some of them who have been with us at that time and all the others " * 20)
        begin, gone, kept = story[:60], [*range(300, 350)], [*range(350, 450)]
        complete(client, [*begin, *gone, *kept])
        reply = complete(client, [*begin, *kept, 1])
        assert reply["timings"]["cache_n"] == len(begin) + len(kept)
        assert len(reply["tokens"]) == 8
        again = complete(client, [*begin, *kept, 1])
        assert again["timings"]["cache_n"] == len(begin) + len(kept)
        assert again["tokens"] == reply["tokens"]


def test_where_nothing_can_be_moved_reuse_is_refused(tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "swa.gguf", sliding_window=32)
    server = launch("-m", str(path), "--port", "0", "--cache-reuse", "32")
    try:
        assert server.wait() != 0
        assert "--cache-reuse is of no use here" in server.log
    finally:
        server.end()
