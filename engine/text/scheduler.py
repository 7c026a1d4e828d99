"""Who runs, what is in the next batch, whose cells go: pure bookkeeping, no clock, no library, no thread.

Each step: ``plan`` (admit, make room, fill a batch) → the caller decodes → ``computed`` per run → the caller samples →
``append`` or ``end`` per sequence. Tokens that are forced are appended behind the sampled one, and computed in one run.
Drafted tokens may be put behind a run of the plan; ``checked`` says what became of them.
Rules (design.md, invariants 6 to 9): decodes go first, forced tokens next, prefill fills the rest, first come first
served; a prompt whose prefix is being computed right now waits for it; a full KV cache first loses what is idle, then
preempts the youngest. A batch computes with one set of adapters; sets with due work take turns. Admission, batch,
room and context shift keep one set of books (``engine.text.books``).
"""

from collections import deque
from collections.abc import Collection, Iterable

from engine.errors import InvalidRequest
from engine.text.adapters import AdapterSet
from engine.text.admission import admit
from engine.text.books import Books
from engine.text.filling import add_decodes, add_forced, add_prefills
from engine.text.plan import Batch, HostPrompts, KeptStates, Limits, PlannedMedia, PlannedRun, SchedulerMemory, StepPlan
from engine.text.prefix_cache import PrefixCache
from engine.text.request_checks import check_limits, check_request
from engine.text.requests import GenerationRequest
from engine.text.sequence import Sequence, Status

# Tokens that are computed until an idle prefix is given up, as long as nobody has measured what is right for this
# machine (see ``engine.text.cell_rent``): what 10 ms a token and 0.9 µs a token and cell give, Qwen 0.5B on two cores.
IDLE_AGE = 8192
# Tokens of a prompt from which attention costs more of a step than the matrices (see ``Limits.deep_tile``).
DEEP = 512


class Scheduler:
    """Deterministic: the same calls give the same plans."""

    def __init__(
        self,
        limits: Limits,
        memory: SchedulerMemory,
        host: HostPrompts | None = None,
        checkpoints: KeptStates | None = None,
    ) -> None:
        assert limits.n_seqs >= limits.n_slots, "each slot needs an id of its own"
        assert limits.n_batch >= limits.n_slots, "all decodes must fit one batch"
        assert limits.n_ctx_slot <= limits.n_cells, "one sequence alone must fit"
        assert limits.kv_unified or limits.n_seqs == limits.n_slots, "each slot needs a stream, and no stream a slot"
        self.limits = limits
        self.books = Books(limits, memory, host, checkpoints)
        self.idle_age = IDLE_AGE  # whoever measures sets it
        self._arrivals = 0
        self._by_id: dict[str, Sequence] = {}
        self._turns: list[AdapterSet] = []  # the sets that are in use; the next one to be computed with first
        self._had_media = False  # the last step computed a medium: whoever else runs goes first now

    # --- requests come and go ---

    def validate(self, request: GenerationRequest) -> None:
        """Raise ContextExceeded or InvalidRequest for what can never run. Any thread."""
        check_request(request, self.limits)

    def submit(self, request: GenerationRequest, now: float) -> Sequence:
        """Queue a request whose prompt ``validate`` has let pass: to look at each token again is not for each step.

        Raises ContextExceeded, InvalidRequest for other limits and for an id that is in use.
        """
        check_limits(request, self.limits)
        if request.id in self._by_id:
            raise InvalidRequest(f"a request with the id {request.id} is running")
        self._arrivals += 1
        sequence = Sequence.of(request, self._arrivals, now)
        if not sequence.is_paced:
            sequence.plain_to = self.limits.n_ctx_slot - sum([span.extra for span in request.media])
        self._by_id[request.id] = sequence
        self.waiting.append(sequence)
        return sequence

    def find(self, request_id: str) -> Sequence | None:
        return self._by_id.get(request_id)

    def end(self, sequence: Sequence) -> None:
        """The request is over, for whatever reason; what it computed stays cached if it may."""
        if sequence.status is Status.RUNNING:
            self.books.leave(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.become(Status.ENDED)
        del self._by_id[sequence.request.id]

    # --- a step ---

    def admit(self, now: float, blocked: Collection[str] = ()) -> None:
        """Give slots to who waits for one, as far as there is room; ``plan`` does so too."""
        if not self.running:
            self.books.ceiling = self.limits.n_cells
        admit(self.books, now, blocked)

    def plan(self, now: float, prefill_limit: int, blocked: Collection[str] = ()) -> StepPlan:
        """Admit, make room, and fill a batch.

        ``prefill_limit`` is how many prompt tokens a step may take while streams are running (at least 1);
        ``blocked`` are ids of requests whose clients do not read.
        """
        self.admit(now, blocked)
        if self.running:
            self.cache.expire(self.idle_age)
        decodes, wake_at = self._due_decodes(now, blocked)
        preempted: list[Sequence] = []
        if not self._had_media and (media := self._plan_media(blocked, preempted)) is not None:
            return media
        self._had_media = False
        for adapters in self._in_turn():
            if preempted:
                decodes = [planned for planned in decodes if planned.sequence.status is Status.RUNNING]
            batch = self._fill(adapters, decodes, prefill_limit, now, blocked)
            preempted += batch.preempted
            if batch.runs:
                # Behind all others: a set that comes later cannot overtake one that waits.
                self._turns.remove(adapters)
                self._turns.append(adapters)
                return StepPlan(tuple(batch.runs), None, tuple(preempted), adapters, n_plain=batch.n_plain)
        if (media := self._plan_media(blocked, preempted)) is not None:
            return media
        return StepPlan((), wake_at, tuple(preempted))

    def decoded(self, plan: StepPlan) -> None:
        """The plan's batch has been computed: ``computed`` for each of its runs, drafts left out."""
        n_decoded = plan.n_plain
        for planned in plan.runs[: plan.n_plain]:
            planned.sequence.n_past += 1
        for planned in plan.runs[plan.n_plain :]:
            sequence, count = planned.sequence, planned.run.n_own
            if sequence.n_past < sequence.n_prefill:
                self.computed(sequence, count)
                continue
            sequence.n_past += count
            n_decoded += count
        self.books.private_cells += n_decoded
        self.cache.clock += n_decoded

    def computed(self, sequence: Sequence, count: int) -> None:
        """``count`` pending tokens of a running sequence are in the KV cache now."""
        assert sequence.seq is not None, "only running sequences compute"
        assert 0 <= count <= len(sequence.tokens) - sequence.n_past, "more computed than asked for"
        books = self.books
        books.cache.clock += count
        sequence.moved = False
        if sequence.n_past >= sequence.n_prefill:  # its whole prompt has been shared before
            sequence.n_past += count
            books.private_cells += count
            return
        books.open(sequence)
        sequence.n_past += count
        books.share(sequence, min(sequence.n_past, sequence.n_prefill))
        books.close(sequence)
        books.arrived(sequence)

    def room_for_drafts(self, n_planned: int, wanted: int) -> int:
        """Cells for drafts beside ``n_planned`` others, at most ``wanted``: nobody is preempted for them."""
        free = self.books.free_cells - n_planned
        if free < wanted:
            free += self.cache.evict(wanted - free)
        return max(0, min(free, wanted))

    def checked(self, sequence: Sequence, n_right: int, n_drafted: int) -> None:
        """Drafted tokens are in the KV cache: the first ``n_right`` stay, they have been appended; the others go."""
        assert sequence.seq is not None, "only running sequences compute"
        self.computed(sequence, n_right)
        if n_right < n_drafted:
            self.books.memory.remove(sequence.seq, sequence.n_past, None)

    def step_back(self, sequence: Sequence) -> None:
        """Take the newest token out of the KV cache again: it is to be computed once more, for its logits."""
        assert sequence.seq is not None, "only running sequences compute"
        if not self.limits.can_reuse:
            # Nor does a window go back: the last of what the token sees may have been given up since.
            self.books.restart(sequence)
            return
        self.books.open(sequence)
        is_private = self.cache.length(sequence.seq) < sequence.n_past
        is_private = is_private or self.cache.make_private(sequence.seq, sequence.n_past - 1)
        sequence.n_past -= is_private
        self.books.fall_behind(sequence)
        self.books.close(sequence)
        if not is_private:  # another request shares the token: start over from the cache
            self.books.restart(sequence)
            return
        self.books.memory.remove(sequence.seq, sequence.n_past, None)

    def start_over(self) -> None:
        """What is in the KV cache is not known any more: all who run begin again, from states that were kept."""
        for sequence in self.running:
            self.books.restart(sequence)

    def append(self, sequence: Sequence, token: int, now: float) -> bool:
        """The sequence generated a token; it is pending until the next step. Returns ``must_end``."""
        tokens, run, start = sequence.tokens, sequence.run, sequence.n_past
        if run is not None and len(tokens) == start < sequence.plain_to:
            tokens.append(token)
            sequence.n_generated += 1
            run.start = start
            run.tokens = (token,)
            return False
        return self._append(sequence, token, now)

    def must_end(self, sequence: Sequence) -> bool:
        """Whether the context is full and may not, or cannot, be shifted."""
        if sequence.cells(len(sequence.tokens)) <= self.limits.n_ctx_slot:
            return False
        return not self.limits.can_shift or sequence.request.until_context_full or bool(sequence.request.media)

    def no_room(self, sequences: Iterable[Sequence]) -> Sequence | None:
        """The library found no room although the books say there is: give up what is idle, else preempt.

        Returns a sequence that cannot run even alone and has to fail, or None: plan again.
        """
        if self.cache.idle_cells:
            self.cache.clear()
            return None
        if len(self.running) > 1:
            self.books.ceiling = self.cells_used
            self.books.preempt(max(self.running, key=lambda s: s.arrival))
            return None
        return next(iter(sequences))

    # --- figures ---

    @property
    def cache(self) -> PrefixCache:
        """The prefixes that are kept."""
        return self.books.cache

    @property
    def waiting(self) -> deque[Sequence]:
        """Who has not got a slot, in order of arrival."""
        return self.books.waiting

    @property
    def running(self) -> list[Sequence]:
        """Who has got a slot, in order of admission."""
        return self.books.running

    @property
    def n_prefilling(self) -> int:
        """Running requests that wait for their first token."""
        return len(self.books.roster.prefills)

    @property
    def n_decoding(self) -> int:
        """Running requests that wait for their next token."""
        return len(self.books.roster.decodes)

    @property
    def cells_used(self) -> int:
        """Cells that running requests and the cache hold."""
        return self.books.cells_used

    @property
    def cells_active(self) -> int:
        """Cells that running requests hold."""
        return self.books.room.active

    @property
    def usage(self) -> tuple[int, int]:
        """``cells_used`` and ``cells_active``."""
        return self.books.room.used, self.books.room.active

    def slot(self, index: int) -> Sequence | None:
        return self.books.slots.holder(index)

    def n_remembered(self, slot: int) -> int:
        """Tokens that the slot's last sequence left in the cache; some may have been given up since."""
        return self.books.slots.n_remembered(slot)

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        self.books.check_integrity()

    def spans(self) -> dict[int, int]:
        """Id → n where the KV cache must hold positions 0 … n - 1 for it."""
        return self.books.spans()

    # --- inside: tokens ---

    def _append(self, sequence: Sequence, token: int, now: float) -> bool:
        """``append`` where there is more to it: a pace, other tokens that are pending, a context that is full."""
        sequence.tokens.append(token)
        sequence.n_generated += 1
        self.books.fall_behind(sequence)
        rate = sequence.request.tokens_per_second
        if rate > 0:
            due = (sequence.next_due or now) + 1 / rate
            # Small delays keep the average; what is missed altogether is not caught up with: never a burst.
            sequence.next_due = due if due > now else now + 1 / rate
        return self.must_end(sequence)

    # --- inside: media ---

    def _plan_media(self, blocked: Collection[str], preempted: list[Sequence]) -> StepPlan | None:
        """A step for the medium of whoever has waited longest for one; None where nobody waits, or has room."""
        for sequence in tuple(self.books.roster.with_media):
            span = sequence.next_media
            if span is None or sequence.is_recalling or sequence.request.id in blocked:
                continue
            if sequence.status is not Status.RUNNING:
                continue
            missing = span.chunk.n_cells - self.books.free_cells
            if missing > 0:
                self.books.make_room(missing, sequence, preempted)
            if sequence.status is Status.RUNNING and self.books.free_cells >= span.chunk.n_cells:
                self._had_media = True
                planned = PlannedMedia(sequence, span)
                return StepPlan(preempted=tuple(preempted), adapters=sequence.adapters, media=planned)
        return None

    # --- inside: the batch ---

    def _in_turn(self) -> tuple[AdapterSet, ...]:
        """The sets that running sequences use, the one that has waited longest first."""
        used = self.books.roster.adapters
        self._turns = [adapters for adapters in self._turns if adapters in used]
        self._turns += [adapters for adapters in used if adapters not in self._turns]
        return tuple(self._turns)

    def _fill(
        self,
        adapters: AdapterSet,
        decodes: list[PlannedRun],
        prefill_limit: int,
        now: float,
        blocked: Collection[str],
    ) -> Batch:
        """A batch of what is due with these adapters; ``decodes`` are due with any."""
        batch = Batch()
        mine = decodes
        if len(self._turns) > 1:
            mine = [planned for planned in decodes if planned.sequence.adapters == adapters]
        add_decodes(self.books, batch, mine)
        others_wait = len(mine) < len(decodes)
        prefills = [*self.books.roster.prefills]
        if len(self._turns) > 1:
            prefills = [sequence for sequence in prefills if sequence.adapters == adapters]
        budget = self.limits.n_batch - len(batch.runs)
        limit = budget
        if batch.runs or others_wait:
            # Matrix kernels work in tiles of rows: what fills the last tile costs next to nothing. In streams the
            # library computes the prompt's tokens, but for the first one, behind the others and not with them.
            beside = len(batch.runs) if self.limits.kv_unified else 0
            rows = beside + max(1, prefill_limit)
            limit = min(budget, rows + -rows % self._tile(prefills) - beside)
        # Forced tokens are computed like a prompt. The one stream that runs waits for nobody but itself.
        alone = len(batch.runs) == 1 and not others_wait
        taken = add_forced(self.books, batch, budget if alone else limit)
        n_decode = len(batch.runs)
        add_prefills(self.books, batch, prefills, min(budget - taken, max(1, limit - taken)), now, blocked)
        if not taken and not self.books.roster.has_prompt:
            batch.n_plain = n_decode
        self.books.room.arrange(batch)
        return batch

    def _tile(self, prefills: list[Sequence]) -> int:
        """Rows that cost as much as the last of them. Attention has tiles too, larger ones: fewer rows go one by one.

        That decides once there is much to attend to; before, it would only make steps longer.
        """
        deep = bool(prefills) and prefills[0].n_past >= DEEP
        return self.limits.deep_tile if deep else self.limits.tile

    def _due_decodes(self, now: float, blocked: Collection[str]) -> tuple[list[PlannedRun], float | None]:
        roster = self.books.roster
        if not blocked and not roster.n_paced:
            return [*roster.decodes], None
        due: list[PlannedRun] = []
        wake_at: float | None = None
        for planned in roster.decodes:
            sequence = planned.sequence
            if sequence.request.id in blocked:
                continue
            if sequence.next_due > now:
                wake_at = sequence.next_due if wake_at is None else min(wake_at, sequence.next_due)
            else:
                due.append(planned)
        return due, wake_at
