"""What a new request costs scheduler and cache, as a function of what is cached and of its own length: real time."""

import statistics
from time import perf_counter_ns

import attrs

from engine.text.plan import Limits
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from tools.bench.simulation.cost import MACHINES
from tools.bench.simulation.machine import Clock, Machine
from tools.bench.simulation.traces import N_VOCAB, text

_PREFIXES = 128
_COMMON = 8  # tokens that all cached prompts begin with: the tree branches below them


@attrs.frozen
class Row:
    """``microseconds`` by the new request's length, for ``cached`` tokens in the cache."""

    cached: int
    microseconds: dict[int, float]


def measure(cached: list[int], lengths: list[int], repeats: int) -> list[Row]:
    """The median time from arrival to end of a request that shares half of its prompt, or a cached one if shorter.

    All of its prefill is planned; nothing is generated. Rounds go over all sizes: a slow moment hits all.
    """
    schedulers = {n_cells: _filled(n_cells, max(lengths)) for n_cells in cached}
    samples: dict[tuple[int, int], list[float]] = {(c, n): [] for c in cached for n in lengths}
    for number in range(repeats):
        for n_cells, scheduler in schedulers.items():
            for length in lengths:
                shared = min(length // 2, n_cells // _PREFIXES)
                prompt = _prompt(number % _PREFIXES, shared) + text(-1 - number & 0x7FFFFFFF, length - shared)
                samples[n_cells, length].append(_one(scheduler, prompt) / 1e3)
                scheduler.cache.erase(prompt)
    return [Row(c, {n: statistics.median(samples[c, n]) for n in lengths}) for c in cached]


def _prompt(index: int, length: int) -> list[int]:
    return [*text(0, _COMMON), index, *text(1_000 + index, max(0, length - _COMMON - 1))][:length]


def _filled(cached: int, longest: int) -> Scheduler:
    """A scheduler whose cache holds ``cached`` tokens of 128 prompts that share their beginning."""
    room = cached + 2 * longest
    limits = Limits(n_slots=8, n_cells=room, n_ctx_slot=room, n_batch=2048, n_seqs=256, n_vocab=N_VOCAB, tile=16)
    scheduler = Scheduler(limits, Machine(MACHINES["gpu"], limits, Clock()))
    for index in range(_PREFIXES):
        _one(scheduler, _prompt(index, cached // _PREFIXES))
    return scheduler


def _one(scheduler: Scheduler, prompt: list[int]) -> int:
    """Prefill one prompt and end. Nanoseconds in the scheduler."""
    request = GenerationRequest(id="one", prompt=tuple(prompt), max_tokens=1)
    began = perf_counter_ns()
    sequence = scheduler.submit(request, 0.0)
    while sequence.n_pending:
        for planned in scheduler.plan(0.0, scheduler.limits.n_batch).runs:
            scheduler.computed(planned.sequence, len(planned.run.tokens))
    scheduler.end(sequence)
    return perf_counter_ns() - began
