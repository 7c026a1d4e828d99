"""On which processors and how urgently the engine's threads run: what was given completed and checked."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from cli.errors import UsageError
from cli.parse import Given
from engine.native.options import ContextOptions, Placement

_GENERATING: Final = "engine.context.placement"
_PROMPTS: Final = "engine.context.placement_batch"


@attrs.frozen
class Host:
    """What this machine offers to the process. ``available`` None: threads cannot be bound to processors."""

    available: frozenset[int] | None
    real_time: Callable[[], str | None]  # why real-time priority cannot be had, None if it can
    own_polling: Callable[[], bool]  # whether each team has its own idea of how long to spin


def this_host() -> Host:
    """The machine that we run on."""
    available = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Host(available, _try_real_time, _polls_itself)


def resolve_placement(context: ContextOptions, values: Mapping[str, Given], host: Host | None = None) -> ContextOptions:
    """The context with both teams' placements complete: prompts as generation unless told otherwise.

    UsageError for what the machine or the engine cannot do.
    """
    given = {key: value for key, value in values.items() if key.startswith((f"{_GENERATING}.", f"{_PROMPTS}."))}
    if not given:
        return context
    host = host or this_host()
    generating, prompts = context.placement, context.placement_batch
    for field in attrs.fields_dict(Placement):
        if f"{_PROMPTS}.{field}" not in given:
            prompts = attrs.evolve(prompts, **{field: getattr(generating, field)})
    generating = _processors(generating, given, _GENERATING, host, context.n_threads)
    prompts = _processors(prompts, given, _PROMPTS, host, context.n_threads_batch)
    if host.available is not None and (generating.processors or prompts.processors):
        # The two teams share threads, and what one is bound to stays unless the other says its own.
        every = tuple(sorted(host.available))
        generating = attrs.evolve(generating, processors=generating.processors or every)
        prompts = attrs.evolve(prompts, processors=prompts.processors or every)
    _check_priority(generating, prompts, given, host)
    _check_polling(generating, prompts, given, host)
    return attrs.evolve(context, placement=generating, placement_batch=prompts)


def polling(values: Mapping[str, Given]) -> int | None:
    """How long OpenMP's threads are to spin, in the units of --poll; None: nothing was said."""
    given = values.get(f"{_GENERATING}.poll") or values.get(f"{_PROMPTS}.poll")
    return None if given is None else int(given.value)


def _spelling(given: Mapping[str, Given], team: str, field: str) -> str:
    """Who is to blame: the team's own flag, else the one that it has the value from."""
    return (given.get(f"{team}.{field}") or given[f"{_GENERATING}.{field}"]).spelling


def _processors(placement: Placement, given: Mapping[str, Given], team: str, host: Host, threads: int) -> Placement:
    wanted = set(placement.processors)
    if not wanted and not placement.strict:
        return placement
    field = "processors" if wanted else "strict"
    spelling = _spelling(given, team, field)
    if host.available is None:
        raise UsageError(f"{spelling}: this system cannot bind threads to processors")
    absent = wanted - host.available
    if absent:
        raise UsageError(
            f"{spelling}: not available to this process: {_ranges(absent)} (available: {_ranges(host.available)})"
        )
    wanted = wanted or set(host.available)
    if placement.strict and threads > len(wanted):
        spelling = _spelling(given, team, "strict")
        raise UsageError(f"{spelling}: {threads} threads do not fit {len(wanted)} processors, one each")
    return attrs.evolve(placement, processors=tuple(sorted(wanted)))


def _check_priority(generating: Placement, prompts: Placement, given: Mapping[str, Given], host: Host) -> None:
    if not generating.priority and not prompts.priority:
        return
    team = _GENERATING if generating.priority else _PROMPTS
    if not generating.priority or not prompts.priority:
        spelling = _spelling(given, _PROMPTS, "priority")
        raise UsageError(f"{spelling}: the two teams share threads, which do not come back from real time to 0")
    if reason := host.real_time():
        raise UsageError(f"{_spelling(given, team, 'priority')}: no real-time priority: {reason}")


def _check_polling(generating: Placement, prompts: Placement, given: Mapping[str, Given], host: Host) -> None:
    if generating.poll != prompts.poll and not host.own_polling():
        spelling = _spelling(given, _PROMPTS, "poll")
        raise UsageError(f"{spelling}: all threads of this build (OpenMP) spin alike: give --poll the same value")


def _try_real_time() -> str | None:
    """Tried on a thread of its own, which ends with what it got."""
    if not hasattr(os, "sched_setscheduler"):
        return "this system offers none to threads"
    reasons: list[str] = []

    def become() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError as error:
            reasons.append(f"{error.strerror} (CAP_SYS_NICE or a limit of RTPRIO gives it)")

    thread = threading.Thread(target=become)
    thread.start()
    thread.join()
    return reasons[0] if reasons else None


def _polls_itself() -> bool:
    from engine.native.threads import uses_openmp

    return not uses_openmp()


def _ranges(numbers: set[int] | frozenset[int]) -> str:
    """``0-3, 6``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs) or "none"
