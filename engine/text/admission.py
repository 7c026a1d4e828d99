"""Which waiting requests begin to run now: in order of arrival, from what is cached of their prompts."""

from collections.abc import Collection

from engine.text.books import Books
from engine.text.chunk_reuse import reuse_chunks
from engine.text.context_shift import drop
from engine.text.sequence import Sequence
from engine.text.tokens import common_prefix

# Cells: a shorter common prefix is not worth waiting for.
MIN_SHARED_PREFILL = 16


def admit(books: Books, now: float, blocked: Collection[str]) -> None:
    """Start as many waiting sequences as there are slots and cells for. ``blocked``: see ``Scheduler.plan``."""
    limits = books.limits
    if not limits.continuous_batching and books.running:
        return
    if not books.waiting or len(books.running) >= limits.n_slots:
        return
    prefilling = [*books.roster.prefills]  # who has one token left of its prompt has all others in the cache
    for sequence in list(books.waiting):
        if len(books.running) >= limits.n_slots:
            return
        if not books.slots.has_place(sequence):
            continue
        while len(sequence.tokens) > limits.n_ctx_slot:  # preempted when its slot was full
            drop(books, sequence, limits.n_ctx_slot)
            sequence.n_prefill = len(sequence.tokens)
        if _waits_on(sequence, blocked):
            continue
        reuse = books.reusable(sequence)
        if _better_soon(books, prefilling, sequence, reuse, blocked):
            continue
        if books.running and not books.room.admits(sequence, reuse):
            return  # nobody overtakes: else a large prompt could wait for ever
        slot = books.slots.choose(sequence)
        assert slot is not None, "a place that is gone"
        books.start(sequence, slot, reuse, now)
        reuse_chunks(books, sequence)
        if sequence.is_prefilling:
            prefilling.append(sequence)


def _waits_on(sequence: Sequence, blocked: Collection[str]) -> bool:
    """Whether the prefill that it has been found to wait for still computes what is of use to it."""
    other = sequence.awaited
    return other is not None and other.seq is not None and _worth_waiting_for(other, sequence, other.n_past, blocked)


def _better_soon(
    books: Books, prefilling: list[Sequence], sequence: Sequence, reuse: int, blocked: Collection[str]
) -> bool:
    """Whether one of the running prefills will soon have computed clearly more of this prompt than is cached now.

    One that is paused does not count: nobody waits for a client that does not read.
    """
    if not sequence.request.cache_prompt or sequence.is_scoring:
        return False
    if not books.limits.can_reuse:
        return books.checkpoints is not None and _kept_soon(books, prefilling, sequence, blocked)
    for other in prefilling if sequence.request.media else _near(prefilling, sequence, reuse):
        if _worth_waiting_for(other, sequence, reuse, blocked):
            sequence.awaited = other
            return True
    return False


def _kept_soon(books: Books, prefilling: list[Sequence], sequence: Sequence, blocked: Collection[str]) -> bool:
    """As ``_better_soon``, where states are kept: whoever is waited for keeps that of what both have in common."""
    held, most = books.recallable(sequence, 0), len(sequence.tokens) - 1
    return any(
        _worth_waiting_for(other, sequence, held, blocked)
        and books.keeps(other, min(sequence.shared_prefix[other.arrival], most))
        for other in prefilling
    )


def _worth_waiting_for(other: Sequence, sequence: Sequence, reuse: int, blocked: Collection[str]) -> bool:
    """Whether the running sequence ``other`` is the prefill that ``_better_soon`` looks for."""
    if other.shifted or not other.request.cache_prompt:
        return False
    if other.adapters != sequence.adapters or other.request.id in blocked:
        return False
    shared = sequence.shared_prefix.get(other.arrival)
    if shared is None:
        shared = min(other.n_prefill, common_prefix(other.tokens, sequence.tokens))
        sequence.shared_prefix[other.arrival] = shared
    useful = min(shared, len(sequence.tokens) - 1)
    spared = sequence.cells(useful) - sequence.cells(reuse)
    return spared >= MIN_SHARED_PREFILL and other.n_past < useful


def _near(prefilling: list[Sequence], sequence: Sequence, reuse: int) -> list[Sequence]:
    """Who may have more in common with the prompt than the ``reuse`` tokens that are cached.

    That is nobody who has computed more: it has put that into the cache, where the two part no later than ``reuse``.
    The last token of the least that is worth waiting for has to be common; it differs almost always.
    """
    last = reuse + MIN_SHARED_PREFILL - 1
    if last >= len(sequence.tokens):
        return []
    token = sequence.tokens[last]
    return [o for o in prefilling if o.n_past <= reuse and last < o.n_prefill and o.tokens[last] == token]
