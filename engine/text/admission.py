"""Which waiting requests begin to run now: in order of arrival, from what is cached of their prompts."""

from collections.abc import Collection

from engine.text.books import Books
from engine.text.chunk_reuse import reuse_chunks
from engine.text.context_shift import drop
from engine.text.prompt_index import LEAST_COMMON
from engine.text.sequence import Sequence
from engine.text.tokens import common_prefix


def admit(books: Books, now: float, blocked: Collection[str]) -> None:
    """Start as many waiting sequences as there are slots and cells for. ``blocked``: see ``Scheduler.plan``."""
    limits = books.limits
    if not limits.continuous_batching and books.running:
        return
    waiting = books.waiting
    at = 0
    while at < len(waiting) and len(books.running) < limits.n_slots:
        sequence = waiting[at]
        at += 1
        if _waits_on(sequence, blocked) or not books.slots.has_place(sequence):
            continue
        while len(sequence.tokens) > limits.n_ctx_slot:  # preempted when its slot was full
            drop(books, sequence, limits.n_ctx_slot)
            sequence.n_prefill = len(sequence.tokens)
        reuse = books.reusable(sequence)
        if _better_soon(books, sequence, reuse, blocked):
            continue
        if books.running and not books.room.admits(sequence, reuse):
            return  # nobody overtakes: else a large prompt could wait for ever
        slot = books.slots.choose(sequence)
        assert slot is not None, "a place that is gone"
        at -= 1  # who starts waits no more, and the next one has its place
        books.start(sequence, slot, reuse, now)
        reuse_chunks(books, sequence)


def _waits_on(sequence: Sequence, blocked: Collection[str]) -> bool:
    """Whether the prefill that it was found to wait for still computes what is of use to it. False: look again."""
    other = sequence.awaited
    if other is None or other.n_past > sequence.awaited_to:
        return False
    return other.seq is not None and not other.shifted and other.request.id not in blocked


def _better_soon(books: Books, sequence: Sequence, reuse: int, blocked: Collection[str]) -> bool:
    """Whether one of the running prefills will soon have computed clearly more of this prompt than is cached now.

    One that is paused does not count: nobody waits for a client that does not read.
    """
    if not sequence.request.cache_prompt or sequence.is_scoring:
        return False
    if not books.limits.can_reuse:
        return books.checkpoints is not None and _kept_soon(books, sequence, blocked)
    roster = books.roster
    for other in roster.prefills if sequence.request.media else roster.prompts.near(sequence.tokens, reuse):
        if _worth_waiting_for(other, sequence, reuse, blocked):
            sequence.awaited = other
            sequence.awaited_to = min(sequence.shared_prefix[other.arrival], len(sequence.tokens) - 1) - LEAST_COMMON
            return True
    return False


def _kept_soon(books: Books, sequence: Sequence, blocked: Collection[str]) -> bool:
    """As ``_better_soon``, where states are kept: whoever is waited for keeps that of what both have in common."""
    held, most = books.recallable(sequence, 0), len(sequence.tokens) - 1
    return any(
        _worth_waiting_for(other, sequence, held, blocked)
        and books.keeps(other, min(sequence.shared_prefix[other.arrival], most))
        for other in books.roster.prefills
    )


def _worth_waiting_for(other: Sequence, sequence: Sequence, reuse: int, blocked: Collection[str]) -> bool:
    """Whether the running sequence ``other`` is the prefill that ``_better_soon`` looks for."""
    theirs = other.request
    if other.shifted or not theirs.cache_prompt or theirs.adapters != sequence.adapters or theirs.id in blocked:
        return False
    shared = sequence.shared_prefix.get(other.arrival)
    if shared is None:
        shared = min(other.n_prefill, common_prefix(other.tokens, sequence.tokens))
        sequence.shared_prefix[other.arrival] = shared
    useful = min(shared, len(sequence.tokens) - 1)
    return other.n_past < useful and sequence.cells(useful, reuse) >= LEAST_COMMON
