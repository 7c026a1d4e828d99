"""Which waiting requests begin to run now: in order of arrival, from what is cached of their prompts."""

from collections.abc import Collection

from engine.text.books import Books
from engine.text.chunk_reuse import reuse_chunks
from engine.text.context_shift import drop
from engine.text.prefix_node import common_prefix
from engine.text.sequence import Sequence

# Cells: a shorter common prefix is not worth waiting for.
MIN_SHARED_PREFILL = 16


def admit(books: Books, now: float, blocked: Collection[str]) -> None:
    """Start as many waiting sequences as there are slots and cells for. ``blocked``: see ``Scheduler.plan``."""
    limits = books.limits
    if not limits.continuous_batching and books.running:
        return
    for sequence in list(books.waiting):
        if len(books.running) >= limits.n_slots:
            return
        slot = books.slots.choose(sequence)
        if slot is None:
            continue
        while len(sequence.tokens) > limits.n_ctx_slot:  # preempted when its slot was full
            drop(books, sequence, limits.n_ctx_slot)
            sequence.n_prefill = len(sequence.tokens)
        reuse = books.reusable(sequence)
        if _better_soon(books, sequence, reuse, blocked):
            continue
        if books.running and not _has_room_for(books, sequence, reuse):
            return  # nobody overtakes: else a large prompt could wait for ever
        books.start(sequence, slot, reuse, now)
        reuse_chunks(books, sequence)


def _better_soon(books: Books, sequence: Sequence, reuse: int, blocked: Collection[str]) -> bool:
    """Whether a running prefill will soon have computed clearly more of this prompt than is cached now.

    One that is paused does not count: nobody waits for a client that does not read.
    """
    if not books.limits.can_reuse or not sequence.request.cache_prompt:
        return False
    for other in books.running:
        if not other.is_prefilling or other.shifted or not other.request.cache_prompt:
            continue
        if other.adapters != sequence.adapters:
            continue
        if other.request.id in blocked:
            continue
        shared = sequence.shared_prefix.get(other.arrival)
        if shared is None:
            shared = common_prefix(other.tokens[: other.n_prefill], sequence.tokens)
            sequence.shared_prefix[other.arrival] = shared
        useful = min(shared, len(sequence.tokens) - 1)
        spared = sequence.cells(useful) - sequence.cells(reuse)
        if spared >= MIN_SHARED_PREFILL and other.n_past < useful:
            return True
    return False


def _has_room_for(books: Books, sequence: Sequence, reuse: int) -> bool:
    """Whether its pending tokens fit beside the running ones, each of which may grow by one token meanwhile."""
    wanted = sequence.cells(len(sequence.tokens)) - sequence.cells(reuse) + len(books.running) + 1
    available = books.ceiling - books.cells_used + books.cache.idle_cells
    return wanted <= available - books.cache.idle_in_prefix(sequence.tokens, reuse, sequence.adapters)
