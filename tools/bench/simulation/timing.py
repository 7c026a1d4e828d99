"""The scheduler with a stopwatch around what the engine loop calls: real time, in nanoseconds."""

from collections.abc import Collection
from time import perf_counter_ns
from typing import Any

from engine.text.plan import StepPlan
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from engine.text.sequence import Sequence

_CALIBRATION = 20_000


class TimedScheduler(Scheduler):
    """``lap`` gives the time since the last lap, less what the stopwatch itself takes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ns = 0
        self._calls = 0
        self._overhead = _overhead()

    def lap(self) -> float:
        """Nanoseconds in the scheduler and its cache since the last call."""
        ns = max(0.0, self._ns - self._calls * self._overhead)
        self._ns = self._calls = 0
        return ns

    def submit(self, request: GenerationRequest, now: float) -> Sequence:
        began = perf_counter_ns()
        try:
            return Scheduler.submit(self, request, now)
        finally:
            self._ns += perf_counter_ns() - began
            self._calls += 1

    def plan(self, now: float, prefill_limit: int, blocked: Collection[str] = ()) -> StepPlan:
        began = perf_counter_ns()
        plan = Scheduler.plan(self, now, prefill_limit, blocked)
        self._ns += perf_counter_ns() - began
        self._calls += 1
        return plan

    def decoded(self, plan: StepPlan) -> None:
        began = perf_counter_ns()
        Scheduler.decoded(self, plan)
        self._ns += perf_counter_ns() - began
        self._calls += 1

    def append(self, sequence: Sequence, token: int, now: float) -> bool:
        began = perf_counter_ns()
        must_end = Scheduler.append(self, sequence, token, now)
        self._ns += perf_counter_ns() - began
        self._calls += 1
        return must_end

    def end(self, sequence: Sequence) -> None:
        began = perf_counter_ns()
        Scheduler.end(self, sequence)
        self._ns += perf_counter_ns() - began
        self._calls += 1

    @property
    def usage(self) -> tuple[int, int]:
        began = perf_counter_ns()
        used = self.books.cells_used
        active = used - self.cache.idle_cells
        self._ns += perf_counter_ns() - began
        self._calls += 1
        return used, active


class _Nothing:
    def call(self, first: object, second: object) -> None: ...


def _overhead() -> float:
    """Nanoseconds that a measured call takes beyond what is called: a clock read, and one more call."""
    nothing, bare, timed = _Nothing(), 0, 0
    for _ in range(_CALIBRATION):
        began = perf_counter_ns()
        _Nothing.call(nothing, None, None)
        timed += perf_counter_ns() - began
    began = perf_counter_ns()
    for _ in range(_CALIBRATION):
        nothing.call(None, None)
    bare = perf_counter_ns() - began
    return max(0.0, (timed - bare) / _CALIBRATION)
