"""What drawing a token costs: ours, and llama.cpp's chain over the whole vocabulary as llama-server runs it.

Real logits of ``--streams`` prompts, in turns, nothing else computed meanwhile; each also on several threads at once.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np

from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions
from engine.native.sampler import SamplerFactory
from engine.native.vocab import LlamaVocab
from engine.text.requests import SamplingParams
from tools.bench.native_sampling import NativeSampling
from tools.bench.prompts import Prompts

type Draws = list[Callable[[], object]]

HISTORY = 400  # tokens that penalties may look back at


@attrs.frozen
class Case:
    """One way of sampling. ``allowed``: the share of tokens that a grammar allows, None: no grammar."""

    name: str
    params: SamplingParams
    allowed: float | None = None
    steps: bool = False  # is measured together with decodes too


def cases() -> list[Case]:
    """What is measured."""
    greedy, default = SamplingParams(temperature=0, seed=1), SamplingParams(seed=1)
    penalties = {"repeat_penalty": 1.1, "presence_penalty": 0.5}
    only_min_p = {"top_k": 0, "top_p": 1.0, "min_p": 0.05}
    evolve = attrs.evolve
    found = [
        Case("temperature 0", greedy),
        Case("temperature 0, penalties", evolve(greedy, **penalties)),
        Case("temperature 0, logit_bias", evolve(greedy, logit_bias=((5, 1.0),))),
        Case("default", default, steps=True),
        Case("default, penalties", evolve(default, **penalties)),
        Case("top_k 40, then penalties", evolve(default, samplers=("top_k", "penalties", "top_p"), **penalties)),
        Case("top_k 0, min_p 0.05", evolve(default, **only_min_p)),
        Case("top_k 0, top_p 0.9, min_p 0.1", evolve(default, top_k=0)),
        Case("top_k 0, top_p 0.9", evolve(default, top_k=0, min_p=0.0), steps=True),
        Case("temperature alone", evolve(default, top_k=0, top_p=1.0, min_p=0.0), steps=True),
    ]
    for allowed in (0.002, 0.67):
        found += [Case(f"{case.name}, {allowed:.1%} allowed", case.params, allowed) for case in found[:5:3]]
    for n in (5, 20):
        found += [
            Case(f"temperature 0, {n} logprobs", evolve(greedy, n_probs=n)),
            Case(f"default, {n} logprobs", evolve(default, n_probs=n), steps=n == 5),
            Case(f"default, {n} after sampling", evolve(default, n_probs=n, post_sampling_probs=True)),
        ]
    return found


class Bench:
    """A context with the logits of some prompts, and the times that were taken."""

    def __init__(self, model: str, streams: int) -> None:
        self.model = Model(ModelOptions(path=model))
        self._open: list[Callable[[], object]] = [self.model.close]
        options = ContextOptions(n_ctx=4096, n_batch=2048, n_seq_max=streams, n_threads=2, n_threads_batch=2)
        self.context = Context(self.model, options)
        self.vocab: LlamaVocab = self.model.vocab
        self.factory = SamplerFactory(self.context)
        self._open.append(self.factory.close)
        batch = self.context.new_batch()
        self.indices: list[int] = []
        self.positions: list[int] = []
        for stream in range(streams):
            text = Prompts(seed=1, scenario="sampling", round=stream).text(40)
            tokens = self.vocab.tokenize(text, add_special=True, parse_special=False)
            self.indices.append(batch.add_run(stream, 0, tokens, logits=True))
            self.positions.append(len(tokens))
        if self.context.decode(batch):
            raise RuntimeError("the prompts do not fit the context")
        text = Prompts(seed=2, scenario="sampling", round=0).text(HISTORY)
        self.history = self.vocab.tokenize(text, add_special=False, parse_special=False)[:HISTORY]

    def ours(self, case: Case) -> Draws:
        """For each stream a function that draws a token."""
        mask = None if case.allowed is None else _mask(self.vocab.n_vocab, case.allowed)
        functions: Draws = []
        for stream in range(len(self.indices)):
            sampler = self.factory.create(case.params)
            self._open.append(sampler.close)
            sampler.accept(self.history)
            functions.append(lambda sampler=sampler, stream=stream: sampler.sample(self.indices[stream], mask))
        return functions

    def native(self, case: Case) -> Draws:
        """The same of the library; none where it has nothing like it."""
        if case.allowed is not None or case.params.n_probs:
            return []
        functions: Draws = []
        for stream in range(len(self.indices)):
            chain = NativeSampling(self.model.lib, self.vocab.handle, self.vocab.n_vocab, case.params)
            self._open.append(chain.close)
            chain.accept(self.history)
            functions.append(lambda chain=chain, stream=stream: chain.sample(self.context.handle, self.indices[stream]))
        return functions

    def close(self) -> None:
        """Free everything."""
        for free in reversed(self._open):
            free()

    def touch(self) -> None:
        """Read the logits, so that they are as near to the processor as after a decode."""
        for index in self.indices:
            self.context.logits_row(index).max()

    def step(self) -> None:
        """Decode one more token of each stream: the logits at the first indices are new ones."""
        batch = self.context.new_batch()
        self.indices = [
            batch.add_run(stream, position, [self.history[position % HISTORY]], logits=True)
            for stream, position in enumerate(self.positions)
        ]
        self.positions = [position + 1 for position in self.positions]
        if self.context.decode(batch):
            raise RuntimeError("the context is full")


def _mask(n_vocab: int, share: float) -> bytes:
    bits = np.zeros(-(-n_vocab // 32) * 32, np.uint8)
    bits[:n_vocab] = np.random.default_rng(0).random(n_vocab) < share
    return np.packbits(bits, bitorder="little").tobytes()


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


class Crew:
    """Draws for several streams at once: this thread and ``threads`` - 1 others, an equal share each."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1))

    def draw(self, draws: Draws) -> None:
        """All of them."""
        shares = [draws[first :: self._threads] for first in range(self._threads)]
        others = [self._pool.submit(one_by_one, share) for share in shares[1:]]
        one_by_one(shares[0])
        for other in others:
            other.result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def one_by_one(draws: Draws) -> None:
    """Draw on this thread."""
    for draw in draws:
        draw()


def show_costs(bench: Bench, crew: Crew, rounds: int) -> None:
    """Print what a token costs in each case, in each way, with nothing else running."""
    measured = [(case, bench.ours(case), bench.native(case)) for case in cases()]
    times: dict[tuple[str, str], list[float]] = {}

    def take(name: str, way: str, draw: Callable[[Draws], None], draws: Draws) -> None:
        bench.touch()
        times.setdefault((name, way), []).append(_timed(lambda: draw(draws)) / len(draws) * 1e6)

    for _ in range(rounds):
        for case, ours, native in measured:
            take(case.name, "ours", one_by_one, ours)
            take(case.name, "crew", crew.draw, ours)
            if native:
                take(case.name, "native", one_by_one, native)
                take(case.name, "native, crew", crew.draw, native)
    print(
        "| µs a token, min / median | ours | ours, threads | llama.cpp's chain | that, threads |\n|---|---|---|---|---|"
    )
    for case, _, _ in measured:
        found = [times.get((case.name, way)) for way in ("ours", "crew", "native", "native, crew")]
        cells = ("" if t is None else f"{min(t):.0f} / {statistics.median(t):.0f}" for t in found)
        print(f"| {case.name} | {' | '.join(cells)} |")


def show_steps(bench: Bench, crew: Crew, steps: int) -> None:
    """Print what a step of decoding and drawing takes, with the draws one after the other and on threads, in turns."""
    print("| ms a step, median | one thread | of it drawing | threads | of it drawing |\n|---|---|---|---|---|")
    for case in (case for case in cases() if case.steps):
        taken: dict[str, list[tuple[float, float]]] = {"one": [], "crew": []}
        draws = bench.ours(case)
        for number in range(2 * steps):
            way, draw = (("one", one_by_one), ("crew", crew.draw))[number % 2]
            decoded = _timed(bench.step)
            drawn = _timed(lambda: draw(draws))  # noqa: B023 - called at once
            taken[way].append((decoded + drawn, drawn))
        cells = [f"{statistics.median(column) * 1e3:.2f}" for rows in taken.values() for column in zip(*rows)]
        print(f"| {case.name} | {' | '.join(cells)} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print tables of times; they are this machine's."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench sampling", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="also time so many steps with a decode")
    args = parser.parse_args(arguments)
    bench, crew = Bench(args.model, args.streams), Crew(args.threads)
    print(f"{args.streams} streams, {bench.vocab.n_vocab} tokens in the vocabulary, {args.threads} threads")
    if args.rounds:
        show_costs(bench, crew, args.rounds)
    if args.steps:
        show_steps(bench, crew, args.steps)
    crew.close()
    bench.close()
    return 0
