"""The engine on real cells, a stream for each slot: sharing, returning, saving, drafting, a full context."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from engine.bridge import BridgedEngine, open_text_engine
from engine.errors import ModelLoadError
from engine.native.options import ContextOptions, ModelOptions
from engine.text.options import EngineOptions, KvLayout
from engine.text.speculation.options import SpeculationOptions
from engine.text.start import start_text_engine
from tests.live.agreement import assert_agree, generate, options, together
from tests.live.process import serving

TEXT = "The quick brown fox jumps over the lazy dog while the cat sleeps on the warm stone by the old river. "

type Opened = AbstractAsyncContextManager[BridgedEngine]


def engine(wanted: EngineOptions) -> Opened:
    return open_text_engine(lambda publish: start_text_engine(wanted, publish))


def in_streams(path: Path, **changes: object) -> EngineOptions:
    return options(path, kv_layout=KvLayout.STREAMS, **changes)


def tokens(engine: BridgedEngine, text: str) -> list[int]:
    return engine.vocab.tokenize(text, add_special=True, parse_special=False)


@pytest.fixture
async def streams(tiny_model: Path) -> AsyncIterator[BridgedEngine]:
    async with engine(in_streams(tiny_model)) as opened:
        yield opened


async def test_which_it_is_is_said(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "engine.text")
    async with engine(in_streams(tiny_model)) as opened:
        assert not opened.info.kv_unified
        assert (opened.info.n_ctx, opened.info.n_ctx_slot) == (2048, 256)
    assert "KV cache: a stream for each of 8 slots" in caplog.messages
    for wanted, reason, n_ctx_slot in (
        (options(tiny_model), "--no-kv-unified: one for each", 256),
        (options(tiny_model, kv_layout=KvLayout.UNIFIED), "--kv-unified", 2048),
        (in_streams(tiny_model, n_parallel=1), "there is one slot", 2048),
    ):
        async with engine(wanted) as opened:
            assert (opened.info.kv_unified, opened.info.n_ctx_slot) == (True, n_ctx_slot)
        assert caplog.messages.count(f"KV cache: one for all slots ({reason})") == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [({}, 1), ({"kv_layout": KvLayout.UNIFIED}, 0), ({"kv_layout": KvLayout.STREAMS}, 0), ({"cache_reuse": 16}, 0)],
    ids=["auto", "unified", "streams", "no-choice"],
)
async def test_who_did_not_choose_is_told_what_the_cells_of_others_cost(
    tiny_model: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    told: int,
) -> None:
    caplog.set_level("INFO", "engine.text")
    monkeypatch.setattr("engine.text.foreign_cells.ENOUGH", 4)
    monkeypatch.setattr("engine.text.cell_rent.CellRent.rent", 1.0)
    async with engine(options(tiny_model, **changes)) as opened:
        await together(opened, [tokens(opened, text) for text in (TEXT, TEXT[::-1])], 8)
    assert sum("--no-kv-unified would give each slot" in message for message in caplog.messages) == told


async def test_what_cannot_be_is_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(state: object) -> None:
        raise ValueError("another layout")

    with pytest.raises(ModelLoadError, match="--no-kv-unified is of no use here: --cache-reuse"):
        start_text_engine(in_streams(tiny_model, cache_reuse=16), lambda batch: None)
    monkeypatch.setattr("engine.native.memory.parse", refuse)
    with pytest.raises(ModelLoadError, match="--no-kv-unified is of no use here: the model's cells"):
        start_text_engine(in_streams(tiny_model), lambda batch: None)


async def test_a_prompt_that_four_have_is_computed_once(streams: BridgedEngine) -> None:
    prompt = tokens(streams, TEXT)
    outcomes = await together(streams, [prompt] * 4, 12)
    alone = await generate(streams, "alone", prompt, 12, cache_prompt=False)
    for outcome in outcomes:
        assert_agree(alone, outcome)
    assert sorted(o.finished.timings.cache_n for o in outcomes) == [0] + [len(prompt) - 1] * 3
    assert sum(o.finished.timings.prompt_n for o in outcomes) == len(prompt) + 3


async def test_conversations_that_have_lost_their_streams_come_back_from_host_memory(tiny_model: Path) -> None:
    two = in_streams(tiny_model, n_parallel=2, context=ContextOptions(n_ctx=512, n_batch=256, n_ubatch=256))
    async with engine(two) as opened:
        texts = [f"{number}: {TEXT}" for number in range(6)]
        first = [await generate(opened, f"first-{i}", tokens(opened, text), 8) for i, text in enumerate(texts)]
        again = [
            await generate(opened, f"again-{i}", [*tokens(opened, text), *first[i].tokens], 8)
            for i, text in enumerate(texts)
        ]
        stats = opened.stats()
        alone = [
            await generate(opened, f"alone-{i}", [*tokens(opened, text), *first[i].tokens], 8, cache_prompt=False)
            for i, text in enumerate(texts)
        ]
    assert stats.host_restored_total > 0
    for a, b in zip(again, alone, strict=True):
        assert_agree(b, a)
        assert a.finished.timings.prompt_n <= 8 + 16, "brought back, but for a few tokens"


async def test_a_slot_goes_from_streams_to_a_pool_and_back(tiny_model: Path, tmp_path: Path) -> None:
    pool = options(tiny_model, kv_layout=KvLayout.UNIFIED)
    path = tmp_path / "slot"
    async with engine(in_streams(tiny_model)) as opened:
        prompt = tokens(opened, TEXT)
        first = await generate(opened, "first", prompt, 8, slot=5)
        longer = [*prompt, *first.tokens]
        await opened.save_slot(5, path)
        alone = await generate(opened, "alone", longer, 8, cache_prompt=False)
    for wanted in (pool, in_streams(tiny_model)):
        async with engine(wanted) as opened:
            await opened.restore_slot(2, path)
            outcome = await generate(opened, "again", longer, 8, slot=2)
            assert_agree(alone, outcome)
            assert outcome.finished.timings.prompt_n <= 2
            await opened.save_slot(2, path)


@pytest.mark.parametrize("lookup", [False, True])
async def test_drafts_change_nothing(tiny_model: Path, lookup: bool) -> None:
    drafts = (
        SpeculationOptions(lookup_ngram_min=2)
        if lookup
        else SpeculationOptions(model=ModelOptions(path=str(tiny_model)), least=1, least_probability=0.0)
    )
    async with engine(in_streams(tiny_model)) as opened:
        jobs = [tokens(opened, f"{i} {i} {i} {TEXT}") for i in range(6)]
        plain = await together(opened, jobs, 60)
    async with engine(in_streams(tiny_model, speculation=drafts)) as opened:
        drafted = await together(opened, jobs, 60)
    for a, b in zip(plain, drafted, strict=True):
        assert_agree(a, b)


async def test_a_full_context_ends_or_shifts(streams: BridgedEngine) -> None:
    prompt = tokens(streams, TEXT * 3)[:220]
    shifted = await generate(streams, "shifted", prompt, 80, n_keep=4)
    stopped = await generate(streams, "stopped", prompt, 80, until_context_full=True)
    assert shifted.finished.truncated
    assert len(shifted.tokens) == 80
    assert stopped.finished.truncated
    assert len(stopped.tokens) == 256 - len(prompt) + 1
    assert_agree(stopped, attrs.evolve(shifted, tokens=shifted.tokens[: len(stopped.tokens)]))


def test_a_server_says_so_and_shares_one_prompt_among_its_choices(tiny_model: Path) -> None:
    with serving("-m", str(tiny_model), "-np", "4", "-c", "2048", "--no-kv-unified", "--metrics") as (server, url):
        assert httpx.get(f"{url}/props", timeout=60).json()["kv_unified"] is False
        body = {"prompt": TEXT, "n": 4, "max_tokens": 8, "temperature": 0}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
        metrics = httpx.get(f"{url}/metrics", timeout=60).text
        again = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
    assert len({choice["text"] for choice in answer["choices"]}) == 1
    n_prompt = answer["usage"]["prompt_tokens"]
    assert f"llamabox:prompt_tokens_total {float(n_prompt + 3)}" in metrics.splitlines(), "one and three last tokens"
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == n_prompt - 1
    assert "KV cache: a stream for each of 4 slots" in server.log
