"""The OpenAI SDK against the real model: what users' programs do."""

import asyncio
from collections.abc import Iterator

import openai
import pytest

MESSAGES = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
SEED = {"temperature": 0, "max_tokens": 16}


@pytest.fixture(scope="module")
def client(real_server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "qwen"
    assert model.owned_by == "llama-box"


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="qwen", messages=MESSAGES, **SEED)
    choice = reply.choices[0]
    assert "Paris" in choice.message.content
    assert choice.finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_streamed_chat_equals_the_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="qwen", messages=MESSAGES, **SEED)
    stream = client.chat.completions.create(
        model="qwen", messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **SEED
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert all(delta.role is None for delta in deltas[1:])
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_second_turn_comes_from_the_cache(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="qwen", messages=MESSAGES, **SEED)
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And of Italy?"},
    ]
    second = client.chat.completions.create(model="qwen", messages=turns, **SEED)
    assert "Rome" in second.choices[0].message.content
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 1


def test_several_choices_and_logprobs(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="qwen", messages=MESSAGES, n=3, temperature=1.0, seed=7, max_tokens=8, logprobs=True, top_logprobs=3
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    for choice in reply.choices:
        tokens = choice.logprobs.content
        assert "".join(token.token for token in tokens) == choice.message.content
        for token in tokens:
            assert token.logprob <= 0
            assert len(token.top_logprobs) == 3
            assert token.top_logprobs[0].logprob >= token.top_logprobs[2].logprob


def test_stop_string(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="qwen", messages=[{"role": "user", "content": "Count from 1 to 9, separated by commas."}],
        stop=["4"], temperature=0, max_tokens=40,
    )  # fmt: skip
    assert "3" in reply.choices[0].message.content
    assert "4" not in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"


def test_legacy_completion(client: openai.OpenAI) -> None:
    reply = client.completions.create(
        model="qwen", prompt=["def add(a, b):\n    return", "1, 2, 3,"], temperature=0, max_tokens=6
    )
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert "a + b" in reply.choices[0].text
    assert "4" in reply.choices[1].text


def test_errors_are_the_sdks_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="qwen", messages=MESSAGES, temperature=-1)
    with pytest.raises(openai.BadRequestError, match="1024"):
        client.chat.completions.create(model="qwen", messages=[{"role": "user", "content": "word " * 3000}])


def test_eight_streams_at_once(real_server: str) -> None:
    """Each parallel stream gives the answer that it gives alone."""
    prompts = [f"What is {n} plus {n}? Answer with the number only." for n in range(2, 10)]

    async def ask(client: openai.AsyncOpenAI, prompt: str) -> str:
        stream = await client.chat.completions.create(
            model="qwen", messages=[{"role": "user", "content": prompt}], stream=True, **SEED
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def run() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{real_server}/v1", api_key="none", max_retries=0) as client:
            together = await asyncio.gather(*(ask(client, prompt) for prompt in prompts))
            alone = [await ask(client, prompt) for prompt in prompts]
            return together, alone

    together, alone = asyncio.run(run())
    assert all(together)
    # Numeric ties may turn single answers (see the README's limits); most must be the same to the letter.
    assert sum(a == b for a, b in zip(together, alone, strict=True)) >= 6
