"""Where the time of an engine step goes: llama_decode, sampling, and everything else of the engine thread.

Runs the real engine loop in this process, without HTTP: N greedy streams, all decoding.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

from engine.native.options import ContextOptions, ModelOptions
from engine.text.commands import Submit
from engine.text.options import EngineOptions
from engine.text.requests import GenerationRequest, SamplingParams
from engine.text.start import start_text_engine


class _Clocked:
    """Adds the time that a function takes to ``seconds``."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - began


class _Reader:
    """A client that always reads."""

    def full(self) -> bool:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line a repetition and the medians."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench overhead", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=0.0)
    args = parser.parse_args(arguments)
    context = ContextOptions(n_ctx=8192, n_threads=args.threads, n_threads_batch=args.threads)
    options = EngineOptions(model=ModelOptions(path=args.model), context=context, n_parallel=args.streams)
    started = start_text_engine(options, lambda batch: None)
    backend, loop = started.backend, started.loop
    rows: list[tuple[float, float, float, float]] = []
    for number in range(args.rounds):
        rows.append(_round(backend, loop, args, number))
        step, decode, sample, rest = rows[-1]
        print(
            f"round {number + 1}: step {step * 1e3:.2f} ms, decode {decode:.2%}, sampling {sample:.2%}, rest {rest:.3%}"
        )
    step, decode, sample, rest = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"median:  step {step * 1e3:.2f} ms, decode {decode:.2%}, sampling {sample:.2%}, rest {rest:.3%}")
    backend.close()
    return 0


def _round(backend: Any, loop: Any, args: argparse.Namespace, number: int) -> tuple[float, float, float, float]:
    """(seconds of a step, shares of decode, sampling and the rest)."""
    decode, sample = _Clocked(type(backend).decode.__get__(backend)), 0.0
    backend.decode = decode
    create = type(backend).create_sampler.__get__(backend)
    samplers: list[_Clocked] = []

    def clocked(params: SamplingParams) -> Any:
        sampler = create(params)
        sampler.sample = _Clocked(sampler.sample)
        samplers.append(sampler.sample)
        return sampler

    backend.create_sampler = clocked
    for index in range(args.streams):
        prompt = backend.vocab.tokenize(f"{number} {index}: the story of", add_special=True, parse_special=False)
        sampling = SamplingParams(temperature=args.temperature, ignore_eos=True, seed=index)
        request = GenerationRequest(id=f"{number}-{index}", prompt=prompt, sampling=sampling, max_tokens=1000)
        loop.commands.put(Submit(request, _Reader()))
    while any(s.is_prefilling for s in loop.scheduler.running) or len(loop.scheduler.running) < args.streams:
        loop.step()
    decode.seconds = 0.0
    for clock in samplers:
        clock.seconds = 0.0
    began = time.perf_counter()
    for _ in range(args.steps):
        loop.step()
    total = time.perf_counter() - began
    sample = sum(clock.seconds for clock in samplers)
    for sequence in list(loop.scheduler.running):
        loop.scheduler.end(sequence)
    loop.__dict__["_generations"].clear()
    return (
        total / args.steps,
        decode.seconds / total,
        sample / total,
        (total - decode.seconds - sample) / total,
    )
