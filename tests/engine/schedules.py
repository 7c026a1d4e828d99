"""Random schedules for the scheduler, and a harness that plays them and checks every plan."""

import enum
from math import inf
from typing import Final

import attrs
from hypothesis import strategies as st

from engine.errors import EngineUnavailable, InvalidRequest
from engine.text.adapters import AdapterSet
from engine.text.checkpoints import Checkpoints
from engine.text.commands import EraseSlot, RestoreSlot, SaveSlot
from engine.text.events import Failed, SlotDone
from engine.text.plan import PlannedRun, StepPlan
from engine.text.recall import recall
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from engine.text.sequence import Sequence
from engine.text.slot_keeper import SlotKeeper
from engine.text.snapshot import Snapshot
from engine.text.tokens import row
from tests.engine.driver import Box, check_cells, limits_of, reference
from tests.engine.fake_backend import FakeBackend

ADAPTER_SETS: Final[tuple[AdapterSet, ...]] = ((), (), ((0, 1.0),), ((0, 0.5), (2, 1.0)))


@attrs.frozen(kw_only=True)
class Guest:
    """A request and what happens to it: ``cancel_at`` and ``blocked`` are step numbers.

    ``forced``: behind the i-th token so many are appended that were not sampled, over and over.
    """

    request: GenerationRequest
    forced: tuple[int, ...]
    arrives_at: int
    cancel_at: int | None
    blocked: range


class Act(enum.Enum):
    """What somebody does to a slot."""

    SAVE = "save"
    RESTORE = "restore"
    ERASE = "erase"


@attrs.frozen(kw_only=True)
class Schedule:
    """``slot_acts``: (step, slot, act); what was saved last is restored, by whatever slot."""

    n_slots: int
    n_cells: int
    n_ctx_slot: int
    n_batch: int
    n_seqs: int
    kv_unified: bool
    can_shift: bool
    can_reuse: bool
    continuous: bool
    prefill_limit: int
    guests: tuple[Guest, ...]
    slot_acts: tuple[tuple[int, int, Act], ...]
    slot_similarity: float


@st.composite
def guests(draw: st.DrawFn, index: int, n_slots: int, most: int, *, events: bool) -> Guest:
    length = draw(st.integers(1, most))
    shared = draw(st.integers(0, length))
    prompt = [97 + i % 5 for i in range(shared)] + [107 + (index + i) % 3 for i in range(length - shared)]
    cancel_at = draw(st.none() | st.integers(0, 60)) if events else None
    blocked_from = draw(st.integers(0, 40)) if events else 0
    return Guest(
        request=GenerationRequest(
            id=str(index),
            prompt=row(prompt),
            max_tokens=draw(st.integers(1, 40)),
            cache_prompt=draw(st.sampled_from([True, True, True, False])),
            until_context_full=draw(st.booleans()),
            n_keep=draw(st.integers(-1, 6)),
            n_discard=draw(st.sampled_from([0, 0, 3])),
            slot=draw(st.none() | st.integers(0, n_slots - 1)),
            tokens_per_second=draw(st.sampled_from([0.0, 0.0, 0.3])) if events else 0.0,
            adapters=draw(st.sampled_from(ADAPTER_SETS)),
        ),
        forced=tuple(draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 7, 30]), min_size=1, max_size=4))),
        arrives_at=draw(st.integers(0, 20)),
        cancel_at=cancel_at,
        blocked=range(blocked_from, blocked_from + draw(st.sampled_from([0, 0, 5, 30])) if events else blocked_from),
    )


def _slot_acts(n_slots: int) -> st.SearchStrategy[tuple[int, int, Act]]:
    return st.tuples(st.integers(0, 80), st.integers(0, n_slots - 1), st.sampled_from(Act))


@st.composite
def schedules(draw: st.DrawFn, *, events: bool = True) -> Schedule:
    n_slots = draw(st.integers(1, 4))
    n_cells = draw(st.sampled_from([24, 40, 64, 128]))
    n_ctx_slot = draw(st.sampled_from([n_cells, n_cells // n_slots, n_cells * 2 // (n_slots + 1)]))
    return Schedule(
        n_slots=n_slots,
        n_cells=n_cells,
        n_ctx_slot=n_ctx_slot,
        n_batch=draw(st.sampled_from([4, 8, 16, 64])),
        n_seqs=n_slots + draw(st.sampled_from([0, 1, 6])),
        kv_unified=draw(st.booleans()),
        can_shift=draw(st.booleans()),
        can_reuse=draw(st.sampled_from([True, True, True, False])),
        continuous=draw(st.sampled_from([True, True, True, False])),
        prefill_limit=draw(st.sampled_from([0, 1, 3, 16, 64])),
        guests=tuple(
            draw(guests(i, n_slots, min(40, n_ctx_slot - 1), events=events)) for i in range(draw(st.integers(1, 8)))
        ),
        slot_acts=tuple(draw(st.lists(_slot_acts(n_slots), max_size=8))) if events else (),
        slot_similarity=draw(st.sampled_from([0.0, 0.5])),
    )


class Play:
    """Plays a schedule, one step a second, as the engine loop would; ``trace`` says what each plan was."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.backend = FakeBackend(
            n_cells=schedule.n_cells,
            n_ctx_slot=schedule.n_ctx_slot,
            n_slots=schedule.n_slots,
            n_seqs=schedule.n_seqs,
            kv_unified=schedule.kv_unified,
            n_batch=schedule.n_batch,
            can_shift=schedule.can_shift,
            cuts=schedule.can_reuse or schedule.can_shift or not schedule.kv_unified,
        )
        self.checkpoints = None if schedule.can_reuse else Checkpoints(self.backend, 1 << 20, least=4, tail=2)
        self.scheduler = Scheduler(
            limits_of(
                self.backend,
                can_reuse=schedule.can_reuse,
                continuous_batching=schedule.continuous,
                slot_similarity=schedule.slot_similarity,
            ),
            self.backend,
            checkpoints=self.checkpoints,
        )
        self.keeper = SlotKeeper(self.backend, self.scheduler.books)
        self.snapshot: Snapshot | None = None
        self.sequences: dict[str, Sequence] = {}
        self.generated: dict[str, list[int]] = {}
        self.guests = {guest.request.id: guest for guest in schedule.guests}
        limits = self.scheduler.limits
        self.expected = {guest.request.id: reference(guest.request, limits).tokens for guest in schedule.guests}
        self.over: set[str] = set()
        self.cancelled: set[str] = set()
        self.trace: list[object] = []
        self.now = 0

    def play(self, most: int = 3000) -> None:
        while len(self.over) < len(self.schedule.guests):
            assert self.now < most, "somebody starves"
            self._come_and_go()
            self._act_on_slots()
            self._step()
            self.now += 1

    def _come_and_go(self) -> None:
        for guest in self.schedule.guests:
            key = guest.request.id
            if guest.arrives_at == self.now:
                self.sequences[key] = self.scheduler.submit(guest.request, self.now)
                self.generated[key] = []
            is_here = key in self.sequences and key not in self.over
            if is_here and guest.cancel_at is not None and self.now >= guest.cancel_at:
                self.cancelled.add(key)
                self._end(self.sequences[key])

    def _act_on_slots(self) -> None:
        for step, slot, act in self.schedule.slot_acts:
            if step == self.now:
                self._add(slot, act)
        for _, answer in self.keeper.work():
            if isinstance(answer, SlotDone) and answer.snapshot is not None:
                self.snapshot = answer.snapshot
            assert not isinstance(answer, Failed) or isinstance(answer.error, InvalidRequest | EngineUnavailable)
            self._check_books()

    def _add(self, slot: int, act: Act) -> None:
        box = Box()
        if act is Act.SAVE:
            self.keeper.add(SaveSlot("act", slot, box))
        elif act is Act.ERASE:
            self.keeper.add(EraseSlot("act", slot, box))
        elif self.snapshot is not None:
            self.keeper.add(RestoreSlot("act", slot, box, self.snapshot))

    def _end(self, sequence: Sequence) -> None:
        self.scheduler.end(sequence)
        self.over.add(sequence.request.id)

    def _blocked(self) -> set[str]:
        return {g.request.id for g in self.schedule.guests if self.now in g.blocked}

    def _step(self) -> None:
        blocked = self._blocked()
        running = list(self.scheduler.running)
        if self.checkpoints is not None:
            self.scheduler.admit(self.now, blocked)
            recall(self.scheduler.books, self.checkpoints, inf)
            self.checkpoints.check_integrity()
        plan = self.scheduler.plan(self.now, self.schedule.prefill_limit, blocked)
        self.trace.append([(p.sequence.request.id, attrs.evolve(p.run)) for p in plan.runs])
        self._check_plan(plan, blocked)
        if not self.schedule.continuous and running:
            assert set(self.scheduler.running) <= set(running), "admitted while others run"
        if not plan.runs:
            again = self.scheduler.plan(self.now, self.schedule.prefill_limit, blocked)
            assert not again.runs, "the loop would have waited although there was something to compute"
            return
        self.backend.set_adapters(plan.adapters)
        self.backend.decode([p.run for p in plan.runs])
        self.scheduler.decoded(plan)
        index = -1
        for planned in plan.runs:
            index += len(planned.run.tokens)
            if planned.run.logits:
                self._sample(planned.sequence, self.backend.choose(self.backend.histories[index]))
        self._check_books()

    def _sample(self, sequence: Sequence, token: int) -> None:
        key = sequence.request.id
        forced = self.guests[key].forced
        count = forced[len(self.generated[key]) % len(forced)]
        self._append(sequence, token)
        for token in self.expected[key][len(self.generated[key]) :][:count]:
            if key not in self.over:
                self._append(sequence, token)

    def _append(self, sequence: Sequence, token: int) -> None:
        self.generated[sequence.request.id].append(token)
        self.scheduler.append(sequence, token, self.now)
        if sequence.n_remaining == 0:
            self._end(sequence)
        elif self.scheduler.must_end(sequence):
            sequence.truncated = True
            self._end(sequence)

    def _check_plan(self, plan: StepPlan, blocked: set[str]) -> None:
        self._check_books()
        runs = plan.runs
        if not self.schedule.kv_unified:  # in the order of the streams: what is to be seen is who is in the batch
            streams = [self.backend.kv.stream(p.run.seq) for p in runs]
            assert streams == sorted(streams)
            order = self.scheduler.running.index
            runs = tuple(sorted(runs, key=lambda p: (not p.sequence.is_decoding, order(p.sequence))))
        assert sum(len(p.run.tokens) for p in runs) <= self.schedule.n_batch
        assert len({p.sequence.request.id for p in runs}) == len(runs), "a sequence twice in a batch"
        for sequence, run in ((p.sequence, p.run) for p in runs):
            assert sequence in self.scheduler.running
            assert run.seq == sequence.seq
            assert run.start == sequence.n_past
            assert row(run.tokens) == sequence.tokens[run.start : run.start + len(run.tokens)]
            assert run.logits == (run.start + len(run.tokens) == len(sequence.tokens))
            assert sequence.adapters == plan.adapters, "a batch of two sets of adapters"
        decodes = [p.sequence for p in runs if p.sequence.is_decoding]
        prefills = [p for p in runs if not p.sequence.is_decoding]
        assert [p.sequence for p in runs[: len(decodes)]] == decodes, "a prefill before a decode"
        for sequence in self.scheduler.running:
            may = sequence.is_decoding and sequence.next_due <= self.now and sequence.request.id not in blocked
            if sequence.is_decoding and sequence.adapters == plan.adapters and runs:
                assert (sequence in decodes) == may, "every stream that may go on is in the batch, and no other"
        if decodes:
            assert sum(len(p.run.tokens) for p in prefills) <= max(1, self.schedule.prefill_limit)
        if len(decodes) > 1:
            forced = sum(len(p.run.tokens) - 1 for p in runs[: len(decodes)])
            assert forced <= max(1, self.schedule.prefill_limit), "forced tokens slow the other streams down"
        unfinished = [p for p in prefills[:-1] if not self._is_full(p) and p.sequence.next_due <= self.now]
        unfinished = [p for p in unfinished if p.run.start + len(p.run.tokens) not in p.sequence.save_at]
        assert not unfinished, "a prefill overtakes an unfinished one"
        if runs:
            assert plan.wake_at is None
        elif plan.wake_at is not None:
            assert plan.wake_at > self.now

    def _is_full(self, planned: PlannedRun) -> bool:
        """Whether a run goes as far as it may: to the last token, or to the context's end."""
        return planned.run.logits or planned.run.start + len(planned.run.tokens) == self.schedule.n_ctx_slot

    def _check_books(self) -> None:
        self.scheduler.check_integrity()
        check_cells(self.backend, self.scheduler)
        spans = self.scheduler.spans()
        for seq in range(self.backend.n_seqs):
            length = spans.get(seq, 0)
            first = 0 if self.backend.kv.cuts else length - 1
            assert self.backend.span(seq) == ((first, length - 1) if length else (-1, -1))
