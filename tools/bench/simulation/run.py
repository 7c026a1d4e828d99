"""Plays a trace through the real engine loop, scheduler and prefix cache, on a virtual clock."""

import heapq
import itertools
import queue
from array import array
from collections.abc import Iterable, Sequence
from time import perf_counter_ns

import attrs

from engine.text.backend import Run
from engine.text.cell_rent import CellRent
from engine.text.commands import Command, Mailbox, Stop, Submit
from engine.text.events import Failed, Finished, Notice, Tokens
from engine.text.loop import EngineLoop
from engine.text.plan import Limits
from engine.text.requests import GenerationRequest, SamplingParams
from engine.text.tokens import row
from tools.bench.simulation.cost import CostModel
from tools.bench.simulation.machine import Clock, Machine
from tools.bench.simulation.timing import TimedScheduler
from tools.bench.simulation.traces import Conversation, text


@attrs.define
class Measured:
    """What one simulation gave. Virtual seconds, real nanoseconds (``…_ns``), one entry an event or step."""

    seconds: float = 0.0
    n_requests: int = 0
    n_cut: int = 0  # turns that were left out because the context was full
    n_prompt: int = 0  # tokens
    n_cached: int = 0  # of them, from the cache
    n_output: int = 0
    n_computed: int = 0
    n_preempted: int = 0
    ttft: array = attrs.field(factory=lambda: array("d"))
    gaps: array = attrs.field(factory=lambda: array("d"))
    scheduler_ns: array = attrs.field(factory=lambda: array("d"))
    loop_ns: array = attrs.field(factory=lambda: array("d"))  # all of the engine thread's Python, the above included
    running: array = attrs.field(factory=lambda: array("q"))
    cells: array = attrs.field(factory=lambda: array("q"))


class _Talk:
    """A conversation under way, and the mailbox of its current turn."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.tokens = conversation.opening()
        self.n_done = 0
        self.sent_at = 0.0
        self.last_at: float | None = None

    def full(self) -> bool:
        """It always reads."""
        return False

    def request(self, index: int) -> GenerationRequest:
        """The next turn."""
        turn, seed = self.conversation.turns[self.n_done], self.conversation.seed + 7_368_787 * self.n_done
        self.tokens += text(seed, turn.fresh)
        sampling = SamplingParams(temperature=0.0, ignore_eos=True, seed=seed & 0x7FFFFFFF)
        prompt = row(self.tokens)  # as the bridge gives it
        return GenerationRequest(id=str(index), prompt=prompt, sampling=sampling, max_tokens=turn.n_output)


class _Arrivals(queue.SimpleQueue[Command]):
    """The loop's commands: turns at their times. A wait moves the clock to the next one; Stop when all are over."""

    def __init__(self, clock: Clock, n_ctx_slot: int, measured: Measured) -> None:
        super().__init__()
        self._clock = clock
        self._most = n_ctx_slot
        self._measured = measured
        self._heap: list[tuple[float, int, _Talk | Conversation]] = []
        self._numbers = itertools.count()
        self.ns = 0  # real time that making prompts took: not the engine's

    def add(self, at: float, talk: "_Talk | Conversation") -> None:
        """A turn of the conversation is due at ``at``."""
        heapq.heappush(self._heap, (at, next(self._numbers), talk))

    def empty(self) -> bool:
        return not self._heap or self._heap[0][0] > self._clock.now

    def get(self, block: bool = True, timeout: float | None = None) -> Command:
        began = perf_counter_ns()
        try:
            return self._get()
        finally:
            self.ns += perf_counter_ns() - began

    def _get(self) -> Command:
        while self._heap:
            at, number, talk = heapq.heappop(self._heap)
            self._clock.now = max(self._clock.now, at)
            if isinstance(talk, Conversation):
                talk = _Talk(talk)
            turn = talk.conversation.turns[talk.n_done]
            if len(talk.tokens) + turn.fresh + turn.n_output >= self._most:
                self._measured.n_cut += len(talk.conversation.turns) - talk.n_done
                continue
            talk.sent_at, talk.last_at = at, None
            return Submit(talk.request(number), talk)
        return Stop()


class _FixedAge(CellRent):
    """Idle prefixes go after so many computed tokens, whatever is measured."""

    def __init__(self, age: int) -> None:
        super().__init__()
        self._age = age

    def idle_age(self, n_active: int, returning: float) -> int:
        """Always the same."""
        return self._age


class Simulation:
    """One trace on one machine. ``step_target``: see ``EngineOptions``; ``idle_age``: tokens, None: as measured."""

    def __init__(
        self,
        limits: Limits,
        cost: CostModel,
        trace: Iterable[Conversation],
        step_target: float,
        idle_age: int | None = None,
    ) -> None:
        self.measured = Measured()
        self._clock = Clock()
        machine = self._machine = Machine(cost, limits, self._clock)
        self.scheduler = TimedScheduler(limits, machine)
        rent = None if idle_age is None else _FixedAge(idle_age)
        self.loop = EngineLoop(
            machine, self.scheduler, self._publish, step_target=step_target, rent=rent, clock=self._clock
        )
        self._arrivals = _Arrivals(self._clock, limits.n_ctx_slot, self.measured)
        self.loop.commands = self._arrivals
        for conversation in trace:
            self._arrivals.add(conversation.start, conversation)
        machine.cells = lambda: self.scheduler.books.cells_used
        machine.before, machine.after = self._before, self._after
        self._since = perf_counter_ns()
        self._publish_ns = 0

    def run(self) -> Measured:
        """To the end of the last conversation. Raises AssertionError where a request failed or the books are wrong."""
        self._after()
        self.loop.run()
        self.scheduler.check_integrity()
        measured = self.measured
        measured.seconds = self._clock.now
        measured.n_computed = self._machine.n_computed
        measured.n_preempted = self.loop.stats.preemptions_total
        return measured

    def _before(self, runs: Sequence[Run]) -> None:
        """A step's plan is made: all since the last decode was Python's time."""
        measured = self.measured
        measured.loop_ns.append(perf_counter_ns() - self._since - self._arrivals.ns - self._publish_ns)
        measured.scheduler_ns.append(self.scheduler.lap())
        measured.running.append(len(self.scheduler.running))
        measured.cells.append(self.scheduler.books.cells_used)

    def _after(self) -> None:
        self._arrivals.ns = self._publish_ns = 0
        self._since = perf_counter_ns()

    def _publish(self, batch: list[tuple[Mailbox, Notice]]) -> None:
        began = perf_counter_ns()
        for talk, event in batch:
            assert isinstance(talk, _Talk), "every mailbox is one of ours"
            match event:
                case Tokens():
                    self._arrived(talk, event.tokens)
                case Finished():
                    self._arrived(talk, event.tokens)
                    self._finished(talk, event)
                case Failed():
                    raise AssertionError("a request of the simulation failed") from event.error
                case _:
                    raise AssertionError(f"not expected: {event!r}")
        self._publish_ns += perf_counter_ns() - began

    def _arrived(self, talk: _Talk, tokens: tuple[int, ...]) -> None:
        if not tokens:
            return
        now, measured = self._clock.now, self.measured
        if talk.last_at is None:
            measured.ttft.append(now - talk.sent_at)
        else:
            measured.gaps.append(now - talk.last_at)
        talk.last_at = now
        talk.tokens += tokens
        measured.n_output += len(tokens)

    def _finished(self, talk: _Talk, event: Finished) -> None:
        measured = self.measured
        measured.n_requests += 1
        measured.n_cached += event.timings.cache_n
        measured.n_prompt += event.timings.cache_n + event.timings.prompt_n
        think = talk.conversation.turns[talk.n_done].think
        talk.n_done += 1
        if talk.n_done < len(talk.conversation.turns):
            self._arrivals.add(self._clock.now + think, talk)
