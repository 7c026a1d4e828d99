"""A scheduler that is stepped by hand."""

from collections.abc import Callable

from engine.text.plan import StepPlan
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from engine.text.sequence import Sequence
from engine.text.tokens import row
from tests.engine.driver import check_cells, limits_of
from tests.engine.fake_backend import FakeBackend


class Table:
    """A scheduler on the fake backend that is stepped with a clock of one second a step."""

    def __init__(self, backend: FakeBackend | None = None, **limits: object) -> None:
        self.backend = backend or FakeBackend()
        self.limits = limits_of(self.backend, **limits)
        self.scheduler = Scheduler(self.limits, self.backend)
        self.generated: dict[str, list[int]] = {}
        self.now = 0.0
        self.n_preempted = 0

    def ask(self, request_id: str, prompt: str, max_tokens: int | None = 8, **fields: object) -> Sequence:
        request = GenerationRequest(id=request_id, prompt=row(prompt.encode()), max_tokens=max_tokens, **fields)
        self.generated[request_id] = []
        return self.scheduler.submit(request, self.now)

    def step(self, blocked: set[str] = frozenset(), prefill_limit: int = 64, tick: float = 1.0) -> StepPlan:
        plan = self.scheduler.plan(self.now, prefill_limit, blocked)
        self.n_preempted += len(plan.preempted)
        self.scheduler.check_integrity()
        if plan.runs:
            self.backend.set_adapters(plan.adapters)
            self.backend.decode([p.run for p in plan.runs])
            self.scheduler.decoded(plan)
        index = -1
        for planned in plan.runs:
            sequence, run = planned.sequence, planned.run
            index += len(run.tokens)
            if run.logits:
                token = self.backend.choose(self.backend.histories[index])
                self.scheduler.append(sequence, token, self.now)
                self.generated[sequence.request.id].append(token)
                if sequence.n_remaining == 0 or self.scheduler.must_end(sequence):
                    self.scheduler.end(sequence)
        self.scheduler.check_integrity()
        check_cells(self.backend, self.scheduler)
        self.now += tick
        return plan

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def until(self, condition: Callable[[], bool], blocked: set[str] = frozenset()) -> list[str]:
        """Step until the condition holds. Returns the ids of those that were preempted, in order."""
        preempted: list[str] = []
        for _ in range(500):
            if condition():
                return preempted
            preempted += [s.request.id for s in self.step(blocked).preempted]
        raise AssertionError("it never happens")

    def finish(self) -> list[str]:
        return self.until(lambda: not self.busy)

    def until_preempted(self) -> None:
        self.until(lambda: self.n_preempted > 0)

    @property
    def running(self) -> list[str]:
        return [s.request.id for s in self.scheduler.running]

    @property
    def waiting(self) -> list[str]:
        return [s.request.id for s in self.scheduler.waiting]


def sizes(plan: StepPlan) -> list[tuple[str, int]]:
    return [(p.sequence.request.id, len(p.run.tokens)) for p in plan.runs]
