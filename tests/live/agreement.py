"""What is compared where greedy text must be the same, and where practically equal candidates may swap."""

from pathlib import Path

import attrs
import trio

from engine.bridge import BridgedEngine
from engine.native.options import ContextOptions, ModelOptions
from engine.text.events import Failed, Finished, Tokens
from engine.text.options import EngineOptions
from engine.text.requests import GenerationRequest, SamplingParams, TokenInfo

# Batches of other sizes move logits by this much (measured: 0.26 on Qwen); closer candidates may swap.
TIE = 0.6
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True, n_probs=2)


@attrs.frozen
class Outcome:
    """A text: its tokens with the two best candidates of each place."""

    tokens: list[int]
    infos: list[TokenInfo]
    finished: Finished


@attrs.frozen
class Tie:
    """Where two texts part: after ``at`` tokens, whose two best candidates' log-probabilities are ``gap`` apart."""

    at: int
    gap: float


def options(path: Path, **changes: object) -> EngineOptions:
    """Eight slots of 256 tokens; the books are compared with the library's whenever the engine is idle.

    Where other tests run, two threads would spend most of the time waiting for each other.
    """
    context = ContextOptions(n_ctx=2048, n_batch=256, n_ubatch=256, n_threads=1, n_threads_batch=1)
    base = EngineOptions(model=ModelOptions(path=str(path)), context=context, n_parallel=8, warmup=False, debug=True)
    return attrs.evolve(base, **changes)


async def generate(engine: BridgedEngine, key: str, prompt: list[int], count: int, **fields: object) -> Outcome:
    """The greedy text behind a prompt."""
    request = GenerationRequest(id=key, prompt=prompt, sampling=GREEDY, max_tokens=count, **fields)
    tokens: list[int] = []
    infos: list[TokenInfo] = []
    async with engine.generate(request) as events:
        async for event in events:
            assert not isinstance(event, Failed), event
            if isinstance(event, Tokens | Finished):
                tokens += event.tokens
                infos += event.infos
    assert isinstance(event, Finished)
    return Outcome(tokens, infos, event)


async def together(engine: BridgedEngine, jobs: list[list[int]], count: int, **fields: object) -> list[Outcome]:
    """All prompts at once, in their order."""
    outcomes: dict[int, Outcome] = {}

    async def run(index: int, prompt: list[int]) -> None:
        outcomes[index] = await generate(engine, f"together-{index}", prompt, count, **fields)

    async with trio.open_nursery() as nursery:
        for index, prompt in enumerate(jobs):
            nursery.start_soon(run, index, prompt)
    return [outcomes[index] for index in range(len(jobs))]


def compare(alone: Outcome, other: Outcome) -> Tie | None:
    """None where both are the same, else the tie where they part; AssertionError where there was none."""
    for at, (info, a, b) in enumerate(zip(alone.infos, alone.tokens, other.tokens, strict=False)):
        if a != b:
            best, second = info.top[:2]
            gap = best.logprob - second.logprob
            assert gap < TIE, f"the texts part after {at} tokens where there was no tie ({gap:.2f})"
            assert b in (best.token, second.token), f"token {b} after {at} tokens was not among the best two"
            return Tie(at, gap)
    assert len(alone.tokens) == len(other.tokens), "one text is longer"
    return None


def assert_agree(alone: Outcome, other: Outcome) -> None:
    """Equal token by token, up to the first place where the two best candidates were practically equal."""
    compare(alone, other)
