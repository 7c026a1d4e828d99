"""The books that admission, batch, room and context shift share: who waits, who runs where, whose cells are whose.

Pure bookkeeping over the prefix cache; the rules that use it are in ``engine.text.scheduler`` and its neighbours.
"""

from bisect import insort
from collections import deque

from engine.text.media_cells import last_position, whole
from engine.text.plan import HostPrompts, KeptStates, Limits, SchedulerMemory
from engine.text.room import open_cache, open_room
from engine.text.roster import Roster
from engine.text.sequence import Sequence, Status
from engine.text.slots import Left, Slots


class Books:
    """One set of books. Sequences are in ``waiting`` in order of arrival, in ``running`` in order of admission."""

    def __init__(
        self,
        limits: Limits,
        memory: SchedulerMemory,
        host: HostPrompts | None = None,
        checkpoints: KeptStates | None = None,
    ) -> None:
        """``checkpoints`` take the place of the cache, and of ``host``, where nothing may be shared."""
        assert checkpoints is None or not limits.can_reuse, "states are kept where prefixes cannot be"
        self.limits = limits
        self.memory = memory
        self.host = host
        self.checkpoints = checkpoints
        self.cache = open_cache(self)
        self.room = open_room(self)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.slots = Slots(limits.n_slots, limits.slot_similarity)
        self.private_cells = 0  # cells of running sequences that are no part of the cache: the sum of ``private``
        self.roster = Roster(limits.n_ctx_slot)  # who runs, by what a step does with them
        self.ceiling = limits.n_cells  # cells that may be used; lower once the library had less room than the books

    # --- figures ---

    @property
    def cells_used(self) -> int:
        """Cells that running requests and the cache hold."""
        return self.room.used

    @property
    def free_cells(self) -> int:
        """Cells that may be claimed."""
        return self.room.free

    def private(self, sequence: Sequence) -> int:
        """Cells of a running sequence that are no part of the cache."""
        assert sequence.seq is not None, "only running sequences hold cells"
        return sequence.cells(sequence.n_past, self.cache.length(sequence.seq))

    def reusable(self, sequence: Sequence) -> int:
        """Cached tokens that the sequence can start from; the last prompt token is always computed, for its logits."""
        if not self.limits.can_reuse or not sequence.request.cache_prompt or sequence.is_scoring:
            return 0
        tokens = sequence.tokens
        matching = self.cache.match(tokens, sequence.adapters)
        reuse = whole(tokens, min(matching, len(tokens) - 1))
        return self.cache.usable(tokens, reuse, sequence.adapters)

    def recallable(self, sequence: Sequence, reuse: int) -> int:
        """How many tokens it can start from with what host memory has behind the first ``reuse``; 0: no more."""
        host = self.host if self.limits.can_reuse else self.checkpoints
        if host is None or not sequence.request.cache_prompt or sequence.is_scoring:
            return 0
        upto = min(host.reach(sequence.tokens, reuse, sequence.adapters), len(sequence.tokens) - 1)
        upto = whole(sequence.tokens, upto)
        return upto if upto > reuse else 0

    def spans(self) -> dict[int, int]:
        """Id → n where the KV cache must hold positions 0 … n - 1 for it."""
        spans = self.cache.spans()
        for sequence in self.running:
            if sequence.seq is not None:
                length = sequence.n_past
                spans[sequence.seq] = last_position(sequence.tokens[length - 1], length) + 1 if length else 0
        return spans

    # --- changes ---

    def open(self, sequence: Sequence) -> None:
        """What the running sequence holds is about to change, beyond one decoded token; ``close`` must follow."""
        self.private_cells -= self.private(sequence)

    def close(self, sequence: Sequence) -> None:
        """The change is made."""
        self.private_cells += self.private(sequence)
        self.roster.place(sequence)

    def fall_behind(self, sequence: Sequence) -> None:
        """What the sequence computes next is not what its run was moved on to: the next plan looks."""
        if sequence.run is not None:
            self.roster.is_behind = True

    # --- sequences come and go ---

    def start(self, sequence: Sequence, slot: int, reuse: int, now: float) -> None:
        """Run a waiting sequence in a free slot, from ``reuse`` cached tokens on."""
        self.waiting.remove(sequence)
        sequence.become(Status.RUNNING)
        sequence.own_tokens()
        sequence.seq = self.cache.attach(sequence.tokens, reuse, sequence.adapters)
        sequence.n_past = reuse
        sequence.recall_to = self.recallable(sequence, reuse)
        sequence.slot = slot
        sequence.awaited = None
        if sequence.admitted_at is None:
            sequence.admitted_at = now
            sequence.n_cached = sequence.cells(reuse)
            sequence.counts_cached = True
        self.slots.take(slot, sequence)
        self._choose_lengths(sequence)
        self.running.append(sequence)
        self.roster.join(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Back to its place in the queue; its tokens are prefilled again, from the cache as far as that survives."""
        self.leave(sequence)
        sequence.become(Status.WAITING)
        place = sum(1 for other in self.waiting if other.arrival < sequence.arrival)
        self.waiting.insert(place, sequence)

    def leave(self, sequence: Sequence) -> None:
        """Give up slot and id; computed tokens go to the cache where they may."""
        assert sequence.slot is not None, "only running sequences leave"
        self.slots.give_up(sequence.slot, self._left_by(sequence))
        self._keep(sequence, is_left=True)
        self.running.remove(sequence)
        self.roster.leave(sequence)
        self._give_up_cells(sequence)
        sequence.slot = None

    def restart(self, sequence: Sequence) -> None:
        """Keep the slot, drop the cells, and begin again from what the cache has of the sequence's tokens."""
        seq = sequence.seq
        assert seq is not None, "only running sequences restart"
        self.open(sequence)
        self.memory.remove(seq, self.cache.length(seq), None)
        self.cache.release(seq)
        sequence.shifted = sequence.moved = False
        sequence.n_prefill = min(len(sequence.tokens), self.limits.n_ctx_slot)
        reuse = self.reusable(sequence)
        sequence.seq = self.cache.attach(sequence.tokens, reuse, sequence.adapters)
        sequence.n_past = reuse
        sequence.recall_to = self.recallable(sequence, reuse)
        sequence.counts_cached = False
        self._choose_lengths(sequence)
        self.fall_behind(sequence)
        self.close(sequence)

    # --- checkpoints ---

    def arrived(self, sequence: Sequence) -> None:
        """The sequence has computed more of its prompt: its state is kept where it is at such a length."""
        if sequence.save_at and sequence.save_at[0] == sequence.n_past:
            del sequence.save_at[0]
            self._keep(sequence)

    def keeps(self, sequence: Sequence, length: int) -> bool:
        """Whether the state of a running prompt is going to be kept of so many tokens, or of hardly fewer.

        It is asked for now if need be.
        """
        assert self.checkpoints is not None, "there is nowhere to keep it"
        least = self.checkpoints.least
        if any(0 <= length - at < least for at in sequence.save_at):
            return True
        if length - max(sequence.n_past, sequence.recall_to) < least:
            return False
        insort(sequence.save_at, length)
        return True

    def _choose_lengths(self, sequence: Sequence) -> None:
        if self.checkpoints is not None and self._may_keep(sequence):
            alike = [s for s in self.running if s is not sequence and s.adapters == sequence.adapters]
            others = [s.tokens[: s.n_prefill] for s in alike]
            sequence.save_at = self.checkpoints.lengths(
                sequence.tokens, max(sequence.n_past, sequence.recall_to), sequence.adapters, others
            )

    def _keep(self, sequence: Sequence, *, is_left: bool = False) -> None:
        if self.checkpoints is not None and self._may_keep(sequence):
            assert sequence.seq is not None, "only running sequences have a state"
            tokens = sequence.tokens[: sequence.n_past]
            self.checkpoints.save(sequence.seq, tokens, sequence.adapters, is_left=is_left)

    def _may_keep(self, sequence: Sequence) -> bool:
        """Whether its state is what its tokens alone give."""
        return sequence.request.cache_prompt and not sequence.shifted

    # --- cells ---

    def make_room(self, n_cells: int, sequence: Sequence, preempted: list[Sequence]) -> int:
        """Evict what is idle, else preempt from the youngest on, ``sequence`` itself included unless it is alone.

        Returns how many cells were freed; who was preempted is added to ``preempted``.
        """
        freed = self.cache.evict(n_cells)
        while freed < n_cells:
            victim = max(self.running, key=lambda s: s.arrival)
            if victim is sequence and len(self.running) == 1:
                break
            before = self.free_cells
            self.preempt(victim)
            preempted.append(victim)
            freed += self.free_cells - before
            freed += self.cache.evict(n_cells - freed)
            if victim is sequence:
                break
        return freed

    def share(self, sequence: Sequence, upto: int) -> None:
        """Put the computed part of the prompt into the tree, so that others can start from it. The books are open."""
        assert sequence.seq is not None, "only running sequences share"
        if not self._may_share(sequence):
            return
        length = self.cache.length(sequence.seq)
        if upto > length:
            self.cache.extend(sequence.seq, sequence.tokens[length:upto])

    def _may_share(self, sequence: Sequence) -> bool:
        """Whether others may use what it computed."""
        return self.limits.can_reuse and sequence.request.cache_prompt and not sequence.shifted and not sequence.moved

    def _left_by(self, sequence: Sequence) -> Left | None:
        """What its slot remembers when it leaves; None if nothing of it stays cached."""
        stays = self._may_share(sequence) if self.checkpoints is None else self._may_keep(sequence)
        if not stays or sequence.n_past == 0:
            return None
        return Left(sequence.tokens, sequence.n_past, sequence.adapters)

    def _give_up_cells(self, sequence: Sequence) -> None:
        seq = sequence.seq
        assert seq is not None, "only running sequences hold cells"
        self.open(sequence)
        if self._may_share(sequence):
            self.cache.extend(seq, sequence.tokens[self.cache.length(seq) : sequence.n_past])
        else:
            # Also what a failed step may have computed and the books do not know.
            self.memory.remove(seq, self.cache.length(seq), None)
        self.cache.release(seq)
        sequence.seq = None
        sequence.n_past = 0
        sequence.recall_to = 0
        sequence.counts_cached = False
        sequence.n_prefill = len(sequence.tokens)
        sequence.shifted = sequence.moved = False
        sequence.shared_prefix.clear()

    # --- checking ---

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        self.cache.check_integrity()
        self.room.check_integrity()
        assert self.private_cells == sum(map(self.private, self.running)), "private cells that are counted wrongly"
        self.roster.check_integrity(self.running)
        assert len(self.running) == self.slots.n_taken, "slots and running disagree"
        for sequence in self.running:
            assert sequence.status is Status.RUNNING, "a running sequence that does not run"
            assert sequence.tokens is not sequence.request.prompt, "a running sequence that changes its request"
            assert sequence.slot is not None, "a running sequence without a slot"
            assert self.slots.holder(sequence.slot) is sequence, "a slot of somebody else"
            assert sequence.seq is not None, "a running sequence without an id"
            assert self.cache.is_active(sequence.seq), "an id that the cache thinks idle"
            assert self.private(sequence) >= 0, "the cache holds more than was computed"
            assert sequence.recall_to < len(sequence.tokens), "a recalled prompt without a token to compute"
            assert sequence.save_at == sorted(sequence.save_at), "states to be kept out of order"
            assert all(at > sequence.n_past for at in sequence.save_at), "a state that was to be kept is gone"
            assert sequence.cells(sequence.n_past) <= self.limits.n_ctx_slot, "a sequence larger than its slot"
        assert all(s.status is Status.WAITING and s.seq is None for s in self.waiting), "a waiting one that holds cells"
