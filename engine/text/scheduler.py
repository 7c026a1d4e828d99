"""Who runs, what is in the next batch, whose cells go: pure bookkeeping, no clock, no library, no thread.

Each step: ``plan`` (admit, make room, fill a batch) → the caller decodes → ``computed`` per run → the caller samples →
``append`` or ``end`` per sequence. Tokens that are forced are appended behind the sampled one, and computed in one run.
Rules (design.md, invariants 6 to 9): decodes go first, forced tokens next, prefill fills the rest, first come first
served; a prompt whose prefix is being computed right now waits for it; a full KV cache first loses what is idle, then
preempts the youngest. One file, though a long one: admission, batch, room and shift keep one set of books.
"""

from collections import deque
from collections.abc import Collection, Iterable

from engine.errors import ContextExceeded, InvalidRequest
from engine.text.backend import Run
from engine.text.plan import Batch, Limits, PlannedRun, SchedulerMemory, StepPlan
from engine.text.prefix_cache import PrefixCache, common_prefix
from engine.text.requests import GenerationRequest
from engine.text.sequence import Sequence, Status

# Attention looks at every used cell, idle ones too: each computed token pays about 0.9 µs for each of them, and to
# compute a token again costs about 10 ms (measured, Qwen 0.5B on two cores). A cell that has cost as much as that is
# given up: the ski-rental rule, never worse than twice the best that hindsight could do (Karlin et al., 1988).
IDLE_AGE = 8192

# A shorter common prefix is not worth waiting for.
MIN_SHARED_PREFILL = 16


class Scheduler:
    """Deterministic: the same calls give the same plans."""

    def __init__(self, limits: Limits, memory: SchedulerMemory) -> None:
        assert limits.n_seqs >= limits.n_slots, "each slot needs an id of its own"
        assert limits.n_batch >= limits.n_slots, "all decodes must fit one batch"
        assert limits.n_ctx_slot <= limits.n_cells, "one sequence alone must fit"
        self.limits = limits
        self._memory = memory
        self.cache = PrefixCache(limits.n_seqs, memory)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in order of admission
        self._slots: list[Sequence | None] = [None] * limits.n_slots
        self._slot_used: list[int] = [0] * limits.n_slots
        self._arrivals = 0
        self._by_id: dict[str, Sequence] = {}
        self._ceiling = limits.n_cells  # cells that may be used; lower once the library had less room than the books

    # --- requests come and go ---

    def validate(self, request: GenerationRequest) -> None:
        """Raise ContextExceeded or InvalidRequest for what can never run. Any thread."""
        if not request.prompt:
            raise InvalidRequest("the prompt has no tokens", "prompt")
        if min(request.prompt) < 0 or max(request.prompt) >= self.limits.n_vocab:
            raise InvalidRequest(f"a token is not in the vocabulary (0 to {self.limits.n_vocab - 1})", "prompt")
        if len(request.prompt) >= self.limits.n_ctx_slot:
            raise ContextExceeded(len(request.prompt), self.limits.n_ctx_slot)
        if request.slot is not None and not 0 <= request.slot < self.limits.n_slots:
            raise InvalidRequest(f"there are slots 0 to {self.limits.n_slots - 1}", "id_slot")

    def submit(self, request: GenerationRequest, now: float) -> Sequence:
        """Queue a request. Raises what ``validate`` raises, and InvalidRequest for an id that is in use."""
        self.validate(request)
        if request.id in self._by_id:
            raise InvalidRequest(f"a request with the id {request.id} is running")
        self._arrivals += 1
        sequence = Sequence.of(request, self._arrivals, now)
        self._by_id[request.id] = sequence
        self.waiting.append(sequence)
        return sequence

    def find(self, request_id: str) -> Sequence | None:
        return self._by_id.get(request_id)

    def end(self, sequence: Sequence) -> None:
        """The request is over, for whatever reason; what it computed stays cached if it may."""
        if sequence.status is Status.RUNNING:
            self._leave(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.become(Status.ENDED)
        del self._by_id[sequence.request.id]

    # --- a step ---

    def plan(self, now: float, prefill_limit: int, blocked: Collection[str] = ()) -> StepPlan:
        """Admit, make room, and fill a batch.

        ``prefill_limit`` is how many prompt tokens a step may take while streams are running (at least 1);
        ``blocked`` are ids of requests whose clients do not read.
        """
        if not self.running:
            self._ceiling = self.limits.n_cells
        self._admit(now, blocked)
        if self.running:
            self.cache.expire(IDLE_AGE)
        decodes, wake_at = self._due_decodes(now, blocked)
        batch = Batch(self._free_cells())
        self._add_decodes(batch, decodes)
        budget = self.limits.n_batch - len(batch.runs)
        limit = budget
        if batch.runs:
            # Matrix kernels work in tiles of rows: what fills the last tile costs next to nothing.
            rows = len(batch.runs) + max(1, prefill_limit)
            limit = min(budget, rows + -rows % self.limits.tile - len(batch.runs))
        # Forced tokens are computed like a prompt. The one stream that runs waits for nobody but itself.
        taken = self._add_forced(batch, budget if len(batch.runs) == 1 else limit)
        self._add_prefills(batch, min(budget - taken, max(1, limit - taken)), now, blocked)
        return StepPlan(tuple(batch.runs), None if batch.runs else wake_at, tuple(batch.preempted))

    def computed(self, sequence: Sequence, count: int) -> None:
        """``count`` pending tokens of a running sequence are in the KV cache now."""
        assert sequence.seq is not None, "only running sequences compute"
        assert 0 <= count <= sequence.n_pending, "more computed than asked for"
        sequence.n_past += count
        self.cache.clock += count
        self._share(sequence, min(sequence.n_past, sequence.n_prefill))

    def step_back(self, sequence: Sequence) -> None:
        """Take the newest token out of the KV cache again: it is to be computed once more, for its logits."""
        assert sequence.seq is not None, "only running sequences compute"
        if self.cache.length(sequence.seq) == sequence.n_past:
            shared = self.cache.make_private(sequence.seq, sequence.n_past - 1)
            if not shared:  # another request shares the token: start over from the cache
                self._restart(sequence)
                return
        sequence.n_past -= 1
        self._memory.remove(sequence.seq, sequence.n_past, None)

    def append(self, sequence: Sequence, token: int, now: float) -> None:
        """The sequence generated a token; it is pending until the next step."""
        sequence.tokens.append(token)
        sequence.n_generated += 1
        rate = sequence.request.tokens_per_second
        if rate > 0:
            due = (sequence.next_due or now) + 1 / rate
            # Small delays keep the average; what is missed altogether is not caught up with: never a burst.
            sequence.next_due = due if due > now else now + 1 / rate

    def must_end(self, sequence: Sequence) -> bool:
        """Whether the context is full and may not, or cannot, be shifted. To be asked after each ``append``."""
        if len(sequence.tokens) <= self.limits.n_ctx_slot:
            return False
        return not self.limits.can_shift or sequence.request.until_context_full

    def no_room(self, sequences: Iterable[Sequence]) -> Sequence | None:
        """The library found no room although the books say there is: give up what is idle, else preempt.

        Returns a sequence that cannot run even alone and has to fail, or None: plan again.
        """
        if self.cache.idle_cells:
            self.cache.clear()
            return None
        if len(self.running) > 1:
            self._ceiling = self.cells_used
            self._preempt(max(self.running, key=lambda s: s.arrival))
            return None
        return next(iter(sequences))

    # --- figures ---

    @property
    def cells_used(self) -> int:
        return self.cache.cells + sum(self._private(s) for s in self.running)

    @property
    def cells_active(self) -> int:
        """Cells that running requests hold."""
        return self.cells_used - self.cache.idle_cells

    def slot(self, index: int) -> Sequence | None:
        return self._slots[index]

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        self.cache.check_integrity()
        assert self.cells_used <= self.limits.n_cells, "more cells in use than there are"
        assert len(self.running) == sum(s is not None for s in self._slots), "slots and running disagree"
        for sequence in self.running:
            assert sequence.status is Status.RUNNING, "a running sequence that does not run"
            assert sequence.slot is not None, "a running sequence without a slot"
            assert self._slots[sequence.slot] is sequence, "a slot of somebody else"
            assert sequence.seq is not None, "a running sequence without an id"
            assert self.cache.is_active(sequence.seq), "an id that the cache thinks idle"
            assert self._private(sequence) >= 0, "the cache holds more than was computed"
            assert sequence.n_past <= self.limits.n_ctx_slot, "a sequence larger than its slot"
        assert all(s.status is Status.WAITING and s.seq is None for s in self.waiting), "a waiting one that holds cells"

    def spans(self) -> dict[int, int]:
        """Id → tokens that the KV cache must hold for it, at positions 0 … n - 1."""
        spans = self.cache.spans()
        spans.update({s.seq: s.n_past for s in self.running if s.seq is not None})
        return spans

    # --- inside: admission ---

    def _admit(self, now: float, blocked: Collection[str]) -> None:
        if not self.limits.continuous_batching and self.running:
            return
        for sequence in list(self.waiting):
            if len(self.running) >= self.limits.n_slots:
                return
            slot = self._choose_slot(sequence)
            if slot is None:
                continue
            while len(sequence.tokens) > self.limits.n_ctx_slot:  # preempted when its slot was full
                self._drop(sequence, self.limits.n_ctx_slot)
                sequence.n_prefill = len(sequence.tokens)
            reuse = self._reusable(sequence)
            if self._better_soon(sequence, reuse, blocked):
                continue
            if self.running and not self._has_room_for(sequence, reuse):
                return  # nobody overtakes: else a large prompt could wait for ever
            self._start(sequence, slot, reuse, now)

    def _choose_slot(self, sequence: Sequence) -> int | None:
        """The slot that was asked for, else the one unused longest."""
        wanted = sequence.request.slot
        if wanted is not None:
            return wanted if self._slots[wanted] is None else None
        free = [i for i, s in enumerate(self._slots) if s is None]
        return min(free, key=lambda i: (self._slot_used[i], i), default=None)

    def _reusable(self, sequence: Sequence) -> int:
        """Cached tokens that the sequence can start from; the last prompt token is always computed, for its logits."""
        if not self.limits.can_reuse or not sequence.request.cache_prompt:
            return 0
        return min(self.cache.match(sequence.tokens), len(sequence.tokens) - 1)

    def _better_soon(self, sequence: Sequence, reuse: int, blocked: Collection[str]) -> bool:
        """Whether a running prefill will soon have computed clearly more of this prompt than is cached now.

        One that is paused does not count: nobody waits for a client that does not read.
        """
        if not self.limits.can_reuse or not sequence.request.cache_prompt:
            return False
        for other in self.running:
            if not other.is_prefilling or other.shifted or not other.request.cache_prompt:
                continue
            if other.request.id in blocked:
                continue
            shared = sequence.shared_prefix.get(other.arrival)
            if shared is None:
                shared = common_prefix(other.tokens[: other.n_prefill], sequence.tokens)
                sequence.shared_prefix[other.arrival] = shared
            useful = min(shared, len(sequence.tokens) - 1)
            if useful - reuse >= MIN_SHARED_PREFILL and other.n_past < useful:
                return True
        return False

    def _has_room_for(self, sequence: Sequence, reuse: int) -> bool:
        """Whether its pending tokens fit beside the running ones, each of which may grow by one token meanwhile."""
        wanted = len(sequence.tokens) - reuse + len(self.running) + 1
        available = self._ceiling - self.cells_used + self.cache.idle_cells
        return wanted <= available - self.cache.idle_in_prefix(sequence.tokens, reuse)

    def _start(self, sequence: Sequence, slot: int, reuse: int, now: float) -> None:
        self.waiting.remove(sequence)
        sequence.become(Status.RUNNING)
        sequence.seq = self.cache.attach(sequence.tokens, reuse)
        sequence.n_past = reuse
        sequence.slot = slot
        if sequence.admitted_at is None:
            sequence.admitted_at = now
            sequence.n_cached = reuse
        self._slots[slot] = sequence
        self._slot_used[slot] = sequence.arrival
        self.running.append(sequence)

    # --- inside: the batch ---

    def _due_decodes(self, now: float, blocked: Collection[str]) -> tuple[list[Sequence], float | None]:
        due: list[Sequence] = []
        wake_at: float | None = None
        for sequence in self.running:
            if not sequence.is_decoding or sequence.request.id in blocked:
                continue
            if sequence.next_due > now:
                wake_at = sequence.next_due if wake_at is None else min(wake_at, sequence.next_due)
            else:
                due.append(sequence)
        return due, wake_at

    def _add_decodes(self, batch: Batch, decodes: list[Sequence]) -> None:
        for sequence in decodes:
            if sequence.status is Status.RUNNING and sequence.n_past >= self.limits.n_ctx_slot:
                self._shift(sequence)
        batch.room = self._free_cells()
        for sequence in decodes:
            if sequence.status is not Status.RUNNING or not sequence.is_decoding:
                continue
            if batch.room < 1:
                batch.room += self._make_room(1, sequence, batch.preempted)
            if sequence.status is Status.RUNNING and batch.room >= 1:
                batch.add(self._planned(sequence, 1))
        batch.runs = [planned for planned in batch.runs if planned.sequence.status is Status.RUNNING]

    def _add_forced(self, batch: Batch, budget: int) -> int:
        """Let decodes that have more than one token pending compute more of them. Returns how many more in all."""
        taken = 0
        for index, planned in enumerate(batch.runs):
            sequence = planned.sequence
            wanted = min(self._most_pending(sequence) - 1, budget - taken)
            if wanted < 1:
                continue
            if batch.room < wanted:
                batch.room += self.cache.evict(wanted - batch.room)
            count = min(wanted, batch.room)
            if count >= 1:
                batch.runs[index] = self._planned(sequence, 1 + count)
                batch.room -= count
                taken += count
        return taken

    def _add_prefills(self, batch: Batch, budget: int, now: float, blocked: Collection[str]) -> None:
        for sequence in [s for s in self.running if not s.is_decoding and s.request.id not in blocked]:
            if budget < 1:
                break
            if sequence.status is not Status.RUNNING:
                continue  # gave way to an older one
            # The token that samples must wait until it is due; a preempted sequence may have to.
            wanted = min(sequence.n_pending - (sequence.next_due > now), budget, self._most_pending(sequence))
            if batch.room < wanted:
                batch.room += self.cache.evict(wanted - batch.room)
            if batch.room < 1 and not batch.runs:
                batch.room += self._make_room(1, sequence, batch.preempted)
            count = min(wanted, batch.room)
            if count < 1 or sequence.status is not Status.RUNNING:
                continue
            batch.add(self._planned(sequence, count))
            budget -= count

    def _most_pending(self, sequence: Sequence) -> int:
        """Pending tokens up to where the context is full: with forced tokens that may be before the last of them."""
        return min(sequence.n_pending, self.limits.n_ctx_slot - sequence.n_past)

    def _planned(self, sequence: Sequence, count: int) -> PlannedRun:
        assert sequence.seq is not None, "only running sequences are planned"
        tokens = sequence.tokens[sequence.n_past : sequence.n_past + count]
        return PlannedRun(sequence, Run(sequence.seq, sequence.n_past, tokens, count == sequence.n_pending))

    # --- inside: cells ---

    def _private(self, sequence: Sequence) -> int:
        assert sequence.seq is not None, "only running sequences hold cells"
        return sequence.n_past - self.cache.length(sequence.seq)

    def _free_cells(self) -> int:
        """Cells that may be claimed. One that runs alone may try all that there are."""
        return (self._ceiling if len(self.running) > 1 else self.limits.n_cells) - self.cells_used

    def _make_room(self, n_cells: int, sequence: Sequence, preempted: list[Sequence]) -> int:
        """Evict what is idle, else preempt from the youngest on, ``sequence`` itself included unless it is alone."""
        freed = self.cache.evict(n_cells)
        while freed < n_cells:
            victim = max(self.running, key=lambda s: s.arrival)
            if victim is sequence and len(self.running) == 1:
                break
            before = self._free_cells()
            self._preempt(victim)
            preempted.append(victim)
            freed += self._free_cells() - before
            freed += self.cache.evict(n_cells - freed)
            if victim is sequence:
                break
        return freed

    def _preempt(self, sequence: Sequence) -> None:
        """Back to its place in the queue; its tokens are prefilled again, from the cache as far as that survives."""
        self._leave(sequence)
        sequence.become(Status.WAITING)
        place = sum(1 for other in self.waiting if other.arrival < sequence.arrival)
        self.waiting.insert(place, sequence)

    def _leave(self, sequence: Sequence) -> None:
        """Give up slot and id; computed tokens go to the cache where they may."""
        assert sequence.slot is not None, "only running sequences leave"
        self._slots[sequence.slot] = None
        self.running.remove(sequence)
        self._give_up_cells(sequence)
        sequence.slot = None

    def _give_up_cells(self, sequence: Sequence) -> None:
        seq = sequence.seq
        assert seq is not None, "only running sequences hold cells"
        if self.limits.can_reuse and sequence.request.cache_prompt and not sequence.shifted:
            self.cache.extend(seq, sequence.tokens[self.cache.length(seq) : sequence.n_past])
        else:
            # Also what a failed step may have computed and the books do not know.
            self._memory.remove(seq, self.cache.length(seq), None)
        self.cache.release(seq)
        sequence.seq = None
        sequence.n_past = 0
        sequence.n_prefill = len(sequence.tokens)
        sequence.shifted = False
        sequence.shared_prefix.clear()

    def _share(self, sequence: Sequence, upto: int) -> None:
        """Put the computed part of the prompt into the tree, so that others can start from it."""
        assert sequence.seq is not None, "only running sequences share"
        if not self.limits.can_reuse or not sequence.request.cache_prompt or sequence.shifted:
            return
        length = self.cache.length(sequence.seq)
        if upto > length:
            self.cache.extend(sequence.seq, sequence.tokens[length:upto])

    # --- inside: context shift ---

    def _shift(self, sequence: Sequence) -> None:
        """Drop tokens behind the kept ones: by moving cells where nobody shares them, else by computing again."""
        assert sequence.seq is not None, "only running sequences shift"
        keep, discard = self._drop(sequence, sequence.n_past)
        if not self.cache.make_private(sequence.seq, keep):
            self._restart(sequence)
            return
        self._memory.remove(sequence.seq, keep, keep + discard)
        self._memory.shift(sequence.seq, keep + discard, None, -discard)
        sequence.n_past -= discard
        sequence.n_prefill = min(sequence.n_prefill, sequence.n_past)
        sequence.shifted = True

    def _drop(self, sequence: Sequence, length: int) -> tuple[int, int]:
        """Take tokens out of the first ``length`` of a full sequence. Returns (tokens kept before them, how many)."""
        request = sequence.request
        keep = len(request.prompt) if request.n_keep < 0 else request.n_keep
        keep = min(max(keep, self.limits.n_keep_always), length - 2)
        left = length - keep
        discard = min(request.n_discard or max(1, left // 2), left - 1)
        del sequence.tokens[keep : keep + discard]
        sequence.truncated = True
        for waiting in self.waiting:  # what they had in common is another now
            waiting.shared_prefix.pop(sequence.arrival, None)
        sequence.shared_prefix.clear()
        return keep, discard

    def _restart(self, sequence: Sequence) -> None:
        """Keep the slot, drop the cells, and begin again from what the cache has of the sequence's tokens."""
        seq = sequence.seq
        assert seq is not None, "only running sequences restart"
        self._memory.remove(seq, self.cache.length(seq), None)
        self.cache.release(seq)
        sequence.shifted = False
        sequence.n_prefill = min(len(sequence.tokens), self.limits.n_ctx_slot)
        reuse = self._reusable(sequence)
        sequence.seq = self.cache.attach(sequence.tokens, reuse)
        sequence.n_past = reuse
