"""What scheduler and cache take of real time, each case by itself: a new request, and a step that only decodes.

A new request: as a function of what is cached and of its own length.
"""

import statistics
from time import perf_counter_ns

import attrs

from engine.text.plan import Limits
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from engine.text.tokens import row
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
                scheduler.cache.erase(row(prompt))
    return [Row(c, {n: statistics.median(samples[c, n]) for n in lengths}) for c in cached]


def decode_steps(n_running: int, repeats: int) -> list[float]:
    """Microseconds of steps in which so many requests decode, each with 500 tokens before, and nothing else happens."""
    cells = n_running * 1024
    limits = Limits(
        n_slots=n_running, n_cells=cells, n_ctx_slot=cells, n_batch=max(2048, n_running), n_seqs=n_running,
        n_vocab=N_VOCAB, tile=16,
    )  # fmt: skip
    scheduler = Scheduler(limits, Machine(MACHINES["gpu"], limits, Clock()))
    for index in range(n_running):
        scheduler.submit(GenerationRequest(id=str(index), prompt=row(_prompt(index, 500))), 0.0)
    samples: list[float] = []
    while len(samples) < repeats:
        prefilling = len(scheduler.running) < n_running or any(s.is_prefilling for s in scheduler.running)
        seconds = _step(scheduler)
        if not prefilling:
            samples.append(seconds / 1e3)
    return samples


def _step(scheduler: Scheduler) -> int:
    """All that the loop asks of the scheduler in a step, without what it does itself between its calls. Nanoseconds."""
    began = perf_counter_ns()
    plan = scheduler.plan(0.0, scheduler.limits.n_batch)
    scheduler.decoded(plan)
    spent = perf_counter_ns() - began
    sampled = [planned.sequence for planned in plan.runs if planned.run.logits]
    began = perf_counter_ns()
    for sequence in sampled:
        scheduler.append(sequence, 1, 0.0)
    assert scheduler.usage, "counted as the loop does"
    return spent + perf_counter_ns() - began


def _prompt(index: int, length: int) -> list[int]:
    return [*text(0, _COMMON), index, *text(1_000 + index, max(0, length - _COMMON - 1))][:length]


def _filled(cached: int, longest: int) -> Scheduler:
    """A scheduler whose cache holds ``cached`` tokens of 128 prompts that share their beginning."""
    room = cached + 2 * longest
    limits = Limits(n_slots=8, n_cells=room, n_ctx_slot=room, n_batch=2048, n_seqs=256, n_vocab=N_VOCAB, tile=16)
    scheduler = Scheduler(limits, Machine(MACHINES["gpu"], limits, Clock()))
    scheduler.idle_age = 1 << 60
    for index in range(_PREFIXES):
        _one(scheduler, _prompt(index, cached // _PREFIXES))
    return scheduler


def _one(scheduler: Scheduler, prompt: list[int]) -> int:
    """Prefill one prompt and end. Nanoseconds in the scheduler."""
    request = GenerationRequest(id="one", prompt=row(prompt), max_tokens=1)
    began = perf_counter_ns()
    sequence = scheduler.submit(request, 0.0)
    while sequence.n_pending:
        for planned in scheduler.plan(0.0, scheduler.limits.n_batch).runs:
            scheduler.computed(planned.sequence, len(planned.run.tokens))
    scheduler.end(sequence)
    return perf_counter_ns() - began
