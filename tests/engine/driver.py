"""Drives the engine loop and its parts by hand: no thread, a clock that only moves when it is told to."""

import queue
from collections.abc import Callable

import attrs

from engine.text.cell_rent import CellRent
from engine.text.checkpoints import Checkpoints
from engine.text.commands import Cancel, Command, Submit
from engine.text.copy_cost import TimedMemory
from engine.text.events import Event, Failed, Finished, TerminalEvent, Tokens
from engine.text.host_memory import HostMemory
from engine.text.loop import EngineLoop
from engine.text.plan import Limits
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from engine.text.speculation.speculation import Speculation
from engine.text.tokens import row
from tests.engine.fake_backend import FakeBackend, next_token
from tests.engine.fake_cells import FakeCells


class Clock:
    """Seconds. ``clock()`` reads it, ``clock.now`` sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def on(self, seconds: float) -> None:
        self.now += seconds


class Box:
    """A mailbox that remembers everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_full = False

    def full(self) -> bool:
        return self.is_full

    @property
    def terminals(self) -> list[TerminalEvent]:
        return [e for e in self.events if isinstance(e, Finished | Failed)]

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, Tokens | Finished))

    @property
    def tokens(self) -> list[int]:
        return [t for e in self.events if isinstance(e, Tokens | Finished) for t in e.tokens]

    def finished(self) -> Finished:
        (event,) = self.terminals
        assert event is self.events[-1], "an event after the terminal event"
        assert isinstance(event, Finished), event
        return event

    def failed(self) -> Failed:
        (event,) = self.terminals
        assert event is self.events[-1], "an event after the terminal event"
        assert isinstance(event, Failed), event
        return event


class StuckError(AssertionError):
    """The loop would wait for a command that no one is going to send."""


class PatientQueue(queue.SimpleQueue[Command]):
    """Never blocks: a wait with a time limit moves the clock instead, one without is an error when there is work."""

    def __init__(self, clock: Clock, has_work: Callable[[], bool]) -> None:
        super().__init__()
        self._clock = clock
        self._has_work = has_work

    def get(self, block: bool = True, timeout: float | None = None) -> Command:
        if self.empty():
            if timeout is not None:
                self._clock.now += timeout
            elif self._has_work():
                raise StuckError("the loop waits for ever")
            raise queue.Empty
        return super().get()


def limits_of(backend: FakeBackend, **changes: object) -> Limits:
    info = backend.info
    return attrs.evolve(
        Limits(
            n_slots=info.n_slots,
            n_cells=info.n_ctx,
            n_ctx_slot=info.n_ctx_slot,
            n_batch=info.n_batch,
            n_seqs=backend.n_seqs,
            n_vocab=backend.info.n_vocab,
            kv_unified=backend.info.kv_unified,
            can_shift=info.can_shift,
            n_adapters=len(info.loras),
            can_reuse=not info.is_recurrent,
            can_cut=not info.is_recurrent,
        ),
        **changes,
    )


def host_of(backend: FakeBackend, limit: int, clock: Callable[[], float], block_size: int = 8) -> HostMemory:
    """Host memory of so many bytes; every token is worth keeping."""
    return HostMemory(FakeCells(backend), limit, block_size=block_size, least=2, clock=clock)


class Driver:
    """A loop on the fake backend; ``boxes`` by request id. ``host_bytes``, ``kept_bytes``: host memory for prompts.

    The former is for backends that cut what they hold, the latter for others.
    """

    def __init__(
        self,
        backend: FakeBackend | None = None,
        *,
        step_target: float = 0.15,
        mask_threads: int = 0,
        host_bytes: int = 0,
        kept_bytes: int = 0,
        speculation: Speculation | None = None,
        rent: CellRent | None = None,
        **limits: object,
    ) -> None:
        self.backend = backend or FakeBackend()
        self.clock = Clock()
        self.host = host_of(self.backend, host_bytes, self.clock) if host_bytes else None
        copies = None if self.backend.info.kv_unified else TimedMemory(self.backend, self.clock)
        self.checkpoints = Checkpoints(self.backend, kept_bytes, least=8, tail=4) if kept_bytes else None
        memory = copies or self.backend
        self.scheduler = Scheduler(limits_of(self.backend, **limits), memory, self.host, self.checkpoints)
        self.boxes: dict[str, Box] = {}
        self.batches: list[int] = []  # events of each publish
        self.tidied: list[float] = []  # when
        self.loop = EngineLoop(
            self.backend,
            self.scheduler,
            self._publish,
            step_target=step_target,
            mask_threads=mask_threads,
            host=self.host or self.checkpoints,
            speculation=speculation,
            rent=rent,
            copies=copies,
            tidy=self._tidy,
            debug=True,
            clock=self.clock,
        )
        self.loop.commands = PatientQueue(self.clock, self._has_work)

    def _has_work(self) -> bool:
        live = [*self.scheduler.running, *self.scheduler.waiting]
        return bool(live) and not any(self.boxes[s.request.id].is_full for s in live)

    def _tidy(self) -> None:
        self.tidied.append(self.clock.now)

    def _publish(self, batch: list[tuple[Box, Event]]) -> None:
        self.batches.append(len(batch))
        for box, event in batch:
            box.events.append(event)

    def submit(self, request: GenerationRequest) -> Box:
        box = self.boxes[request.id] = Box()
        self.loop.commands.put(Submit(request, box))
        return box

    def ask(self, request_id: str, prompt: str, max_tokens: int | None = 4, **fields: object) -> Box:
        tokens = row(prompt.encode())  # as the bridge gives it
        return self.submit(GenerationRequest(id=request_id, prompt=tokens, max_tokens=max_tokens, **fields))

    def cancel(self, request_id: str) -> None:
        self.loop.commands.put(Cancel(request_id))

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting or not self.loop.commands.empty())

    def step(self) -> None:
        self.loop.step()
        self.loop._flush()  # the loop itself does so at the beginning of its next step
        self.check()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def finish(self, most: int = 2000) -> None:
        """Step until nothing is left."""
        for _ in range(most):
            if not self.busy:
                return
            self.step()
        raise AssertionError(f"not at an end after {most} steps")

    def check(self) -> None:
        """The books against the cells."""
        self.loop.check_books()
        check_cells(self.backend, self.scheduler)
        if self.host is not None:
            self.host.cache.check_integrity()

    def check_idle(self) -> None:
        """Nothing of any request is left but its cached tokens."""
        self.check()
        assert not self.scheduler.running
        assert not self.scheduler.waiting
        assert self.scheduler.cells_active == 0
        assert all(sampler.closed for sampler in self.backend.samplers)
        assert all(self.scheduler.slot(i) is None for i in range(self.scheduler.limits.n_slots))


def check_cells(backend: FakeBackend, scheduler: Scheduler) -> None:
    """Every cell is in the books once, and holds the token that its sequences have there."""
    cells = backend.kv.cells
    assert backend.kv.used == scheduler.cells_used
    running = {s.seq: s for s in scheduler.running}
    assert scheduler.cells_active == sum(1 + cell.more for cell in cells if cell.seqs & running.keys())
    for seq, sequence in running.items():
        assert seq is not None
        assert backend.kv.tokens(seq) == sequence.tokens[: sequence.n_past].tolist()
        assert {cell.adapters for cell in backend.kv.of(seq)} <= {sequence.adapters}


@attrs.frozen
class Expected:
    tokens: list[int]
    truncated: bool


def reference(request: GenerationRequest, limits: Limits, count: int | None = None) -> Expected:
    """What the fake model generates when the request runs alone, context shifts included."""
    most = count if request.max_tokens is None else request.max_tokens
    assert most is not None, "a generation without any limit"
    tokens, out, truncated = list(request.prompt), [], False
    while True:
        out.append(next_token(tokens, request.adapters))
        tokens.append(out[-1])
        if len(out) == most:
            return Expected(out, truncated)
        n_past = len(tokens) - 1
        if n_past < limits.n_ctx_slot:
            continue
        truncated = True
        if request.until_context_full or not limits.can_shift:
            return Expected(out, truncated)
        keep = len(request.prompt) if request.n_keep < 0 else request.n_keep
        keep = min(max(keep, limits.n_keep_always), n_past - 2)
        left = n_past - keep
        discard = min(request.n_discard or max(1, left // 2), left - 1)
        del tokens[keep : keep + discard]


def text_of(tokens: list[int]) -> str:
    return bytes(tokens).decode()
