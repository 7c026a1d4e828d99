"""Greedy text does not depend on who else runs, on sharing, preemption or chunking, numeric ties excepted."""

from pathlib import Path

import attrs
import pytest

from engine.bridge import BridgedEngine, open_text_engine
from engine.native.options import ContextOptions
from engine.text.options import KvLayout
from engine.text.start import start_text_engine
from engine.text.stream_cache import SHORT_TAIL
from tests.live.agreement import assert_agree, generate, options, together


@pytest.fixture(params=["tiny", "real"])
def model(request: pytest.FixtureRequest) -> tuple[Path, int]:
    """The file, and how many tokens to generate."""
    name = {"tiny": "tiny_model", "real": "demo_model"}[request.param]
    return request.getfixturevalue(name), {"tiny": 32, "real": 6}[request.param]


def prompts(engine: BridgedEngine, shared: int = 0) -> list[list[int]]:
    """Eight prompts, the first ``shared`` of which begin alike."""
    texts = [f"The {n}th letter of the alphabet, and a word that begins with it:" for n in range(3, 11)]
    head = "This is a list of letters and words that are used in each of the lines below. "
    texts = [head + text for text in texts[:shared]] + texts[shared:]
    return [engine.vocab.tokenize(text, add_special=True, parse_special=False) for text in texts]


# Fifteen seconds with the real model: streams, which are the same code for all models, are left to the tiny one.
@pytest.mark.parametrize(
    ("model", "shared", "layout"),
    [
        ("tiny", 0, KvLayout.UNIFIED),
        ("tiny", 0, KvLayout.STREAMS),
        ("tiny", 8, KvLayout.UNIFIED),
        ("tiny", 8, KvLayout.STREAMS),
        ("real", 4, KvLayout.UNIFIED),
    ],
    indirect=["model"],
)
async def test_eight_at_once_equal_their_solo_runs(model: tuple[Path, int], shared: int, layout: KvLayout) -> None:
    path, count = model
    if layout is KvLayout.STREAMS:  # behind longer answers a stream may go to somebody else, by who came when
        count = min(count, SHORT_TAIL)
    wanted = options(path, kv_layout=layout)
    async with open_text_engine(lambda publish: start_text_engine(wanted, publish)) as engine:
        jobs = prompts(engine, shared)
        alone = [
            await generate(engine, f"alone-{i}", prompt, count, cache_prompt=False) for i, prompt in enumerate(jobs)
        ]
        at_once = await together(engine, jobs, count)
        cached = await together(engine, jobs, count)
    for a, b, c in zip(alone, at_once, cached, strict=True):
        assert_agree(a, b)
        assert_agree(a, c)
    assert all(outcome.finished.timings.cache_n == 0 for outcome in alone)
    assert all(c.finished.timings.prompt_n == 1 for c in cached)
    if shared:
        computed = sum(outcome.finished.timings.prompt_n for outcome in at_once[:shared])
        assert computed < sum(map(len, jobs[:shared])) * 0.7


async def test_preemption_changes_nothing(model: tuple[Path, int]) -> None:
    """Eight sequences that may each use the whole context, which is too small for all of them: as with room."""
    path, count = model
    count *= 2
    small = ContextOptions(n_ctx=256, n_batch=64, n_ubatch=64, n_threads=1, n_threads_batch=1)
    tight = options(path, context=small, kv_layout=KvLayout.UNIFIED)
    async with open_text_engine(lambda publish: start_text_engine(options(path), publish)) as engine:
        jobs = [(2 * prompt)[:31] for prompt in prompts(engine)]
        roomy = await together(engine, jobs, count)
        assert engine.stats().preemptions_total == 0
    async with open_text_engine(lambda publish: start_text_engine(tight, publish)) as engine:
        squeezed = await together(engine, jobs, count)
        preempted = engine.stats().preemptions_total
    assert preempted > 0
    for a, b in zip(roomy, squeezed, strict=True):
        assert_agree(a, b)


async def test_shift_keeps_going(model: tuple[Path, int]) -> None:
    """Up to the full context a shifting run equals one with room; behind it the text goes on."""
    path, count = model
    room = count // 2 + 2  # behind the prompt
    small = ContextOptions(n_ctx=256, n_batch=64, n_ubatch=64, n_threads=1, n_threads_batch=1)
    one = options(path, context=small, n_parallel=1)
    async with open_text_engine(lambda publish: start_text_engine(options(path), publish)) as engine:
        prompt = (prompts(engine, 1)[0] * 30)[: 256 - room]
        roomy = await generate(engine, "roomy", prompt, room)
    async with open_text_engine(lambda publish: start_text_engine(one, publish)) as engine:
        shifted = await generate(engine, "shifted", prompt, 2 * room, n_keep=4)
        again = await generate(engine, "again", prompt, room)
        stopped = await generate(engine, "stopped", prompt, 2 * room, until_context_full=True)
    assert shifted.finished.truncated
    assert len(shifted.tokens) == 2 * room
    assert_agree(roomy, attrs.evolve(shifted, tokens=shifted.tokens[:room]))
    assert_agree(roomy, again)
    assert stopped.finished.truncated
    assert len(stopped.tokens) == 256 - len(prompt) + 1
