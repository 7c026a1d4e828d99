"""What decoding costs when all sequences share one KV cache (unified), and when each has a stream of its own.

Through the library alone, in turns in one process: sequences with unrelated contexts of one length each take a token a
step. Then some decode while the others only hold their cells. Every step starts from the same length.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import attrs

from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions, FlashAttention, ModelOptions
from tools.bench.prompts import Prompts

TOKEN = 100  # any: no step looks at the logits
SPARE = 256  # cells of a sequence beyond its context: the library counts them in 256s


@attrs.frozen
class Case:
    """``active`` sequences decode, ``holding`` of them and others have ``depth`` tokens."""

    depth: int
    active: int
    holding: int


class Cache:
    """A context in one of the two modes."""

    def __init__(
        self, model: Model, *, unified: bool, flash: FlashAttention, n_seqs: int, depth: int, threads: int
    ) -> None:
        cells = -(-(depth + SPARE) // SPARE) * SPARE
        options = ContextOptions(
            n_ctx=n_seqs * cells,
            n_seq_max=n_seqs,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attention=flash,
            kv_unified=unified,
        )
        self.context = Context(model, options)
        self._batch = self.context.new_batch()

    def prefill(self, tokens: Sequence[int], depths: Sequence[int]) -> dict[int, bytearray]:
        """The states of a sequence with so many of the tokens each; ``depths`` ascend. Leaves cells in use."""
        self.context.memory.clear()
        states, size = {}, self.context.n_ubatch
        for begin, depth in zip((0, *depths), depths, strict=False):
            for first in range(begin, depth, size):
                self._batch.clear()
                self._batch.add_run(0, first, tokens[first : min(first + size, depth)], logits=True)
                self._decode()
            states[depth] = self.context.memory.save_state(0)
        return states

    def hold(self, state: bytearray, count: int) -> None:
        """The first ``count`` sequences, and no others, have cells of their own with this state."""
        self.context.memory.clear()
        for seq in range(count):
            self.context.memory.restore_state(seq, state)

    def step(self, case: Case) -> float:
        """Seconds of a decode of one token of each active sequence, which is taken out again."""
        self._batch.clear()
        for seq in range(case.active):
            self._batch.add_run(seq, case.depth, [TOKEN], logits=True)
        began = time.perf_counter()
        self._decode()
        self.context.logits_row(0).max()  # what is computed elsewhere has ended
        seconds = time.perf_counter() - began
        for seq in range(case.active):
            self.context.memory.remove(seq, case.depth, None)
        return seconds

    def _decode(self) -> None:
        if self.context.decode(self._batch):
            raise RuntimeError("the batch does not fit the cache")


def in_turns(caches: Sequence[Cache], case: Case, steps: int) -> list[tuple[float, ...]]:
    """Seconds of each step: one of each cache, the first of them in turns too. Two steps before are not counted."""
    rows = []
    for number in range(-2, steps):
        order = caches if number % 2 else caches[::-1]
        taken = {id(cache): cache.step(case) for cache in order}
        if number >= 0:
            rows.append(tuple(taken[id(cache)] for cache in caches))
    return rows


def row(name: str, case: Case, times: Sequence[tuple[float, ...]]) -> str:
    """A row of the table: medians in ms, and the median of the ratios within each turn."""
    unified, streams = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    what = f"{case.active} decode" + (f", {case.holding - case.active} idle" if case.holding > case.active else "")
    return f"| {name} | {case.depth} | {what} | {unified:.1f} | {streams:.1f} | {ratio:.3f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of times; they are this machine's."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench kv", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--depths", type=int, nargs="+", default=[256, 1000, 3000], help="tokens of each sequence")
    parser.add_argument("--flash", nargs="+", choices=["on", "off"], default=["on", "off"], help="flash attention")
    parser.add_argument("--steps", type=int, default=30, help="of each mode")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    depths = sorted(args.depths)
    cases = [Case(depth, args.streams, args.streams) for depth in depths]
    cases += [Case(depths[-1], 1, holding) for holding in (1, args.streams)]
    model = Model(ModelOptions(path=args.model))
    text = Prompts(seed=1, scenario="kv", round=0).text(2 * depths[-1])
    tokens = model.vocab.tokenize(text, add_special=True, parse_special=False)
    print("| flash attention | tokens each | sequences | unified, ms | streams, ms | unified / streams |")
    print("|---|---|---|---|---|---|", flush=True)
    for flash in args.flash:
        caches = [
            Cache(
                model,
                unified=unified,
                flash=FlashAttention(flash),
                n_seqs=args.streams,
                depth=depths[-1],
                threads=args.threads,
            )
            for unified in (True, False)
        ]
        states = [cache.prefill(tokens, depths) for cache in caches]
        for case in cases:
            for cache, known in zip(caches, states, strict=True):
                cache.hold(known[case.depth], case.holding)
            print(row(flash, case, in_turns(caches, case, args.steps)), flush=True)
        for cache in caches:
            cache.context.close()
    model.close()
    return 0
