"""How probable the tokens of a prompt are (``echo`` with ``logprobs``), against what the same model would generate."""

import math
from pathlib import Path

import httpx
import openai
import pytest

from tests.live.process import serving
from tests.live.test_host_cache import tokens_of
from tests.models.tiny_llm import write_tiny_llm

STORY = "there were some of them who have been with us at that time and all the others " * 4
KINDS = {"plain": {}, "window": {"sliding_window": 32}, "recurrent": {"recurrent": True}}


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_what_the_tokens_before_it_give(kind: str, tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "model.gguf", **KINDS[kind])
    arguments = ("-m", str(path), "-np", "2", "-c", "1024", "-b", "32", "-ub", "16", "-t", "1", "--verbosity", "5")
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        prompt = tokens_of(client, STORY)[:75]
        body = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0}
        for _ in range(2):  # the second time all of it is cached
            (choice,) = client.post("/v1/completions", json=body).raise_for_status().json()["choices"]
            told = choice["logprobs"]
            assert len(told["tokens"]) == len(prompt)
            assert told["token_logprobs"][0] is None
            assert choice["finish_reason"] == "length"
            for end in (1, 2, 16, 17, 31, 32, 33, 64, 74):
                alone = {"prompt": prompt[:end], "n_predict": 1, "n_probs": 1000, "temperature": 0}
                reply = client.post("/completion", json=alone).raise_for_status().json()
                tops = {top["id"]: top["logprob"] for top in reply["completion_probabilities"][0]["top_logprobs"]}
                assert told["token_logprobs"][end] == pytest.approx(tops[prompt[end]], abs=0.02)
                assert max(told["top_logprobs"][end].values()) == pytest.approx(max(tops.values()), abs=0.02)


def test_an_evaluation_finds_the_right_answer(real_server: str) -> None:
    question = "The capital of France is the city of"
    with openai.OpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
        reply = client.completions.create(
            model="qwen",
            prompt=[f"{question} {city}." for city in ("Berlin", "Paris", "London")],
            echo=True,
            logprobs=1,
            max_tokens=1,
            temperature=0,
        )
    sums = []
    for choice in reply.choices:
        told = choice.logprobs
        assert choice.text.startswith(question)
        first = next(i for i, offset in enumerate(told.text_offset) if offset >= len(question))
        assert "".join(told.tokens[:first]) == question
        sums.append(sum(told.token_logprobs[first:-1]))
    assert math.isfinite(sum(sums))
    assert sums[1] == max(sums)
