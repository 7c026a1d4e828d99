"""Fills a step's batch: decodes first, forced tokens next, then prompts. Pure bookkeeping, a part of the scheduler."""

from collections.abc import Collection, Iterable
from collections.abc import Sequence as Row
from typing import Final

from engine.text.backend import Run
from engine.text.books import Books
from engine.text.context_shift import shift
from engine.text.plan import Batch, PlannedRun
from engine.text.sequence import Sequence, Status

# Tokens of a step whose logits are all asked for: of 256 those of 150,000 tokens take 150 MB.
_MOST_SCORED: Final = 256


def add_decodes(books: Books, batch: Batch, decodes: Row[PlannedRun]) -> None:
    """Put the next token of each in, and make room for them. The first of all: ``batch`` is empty."""
    books.roster.catch_up()
    batch.room = books.free_cells
    if batch.room >= len(decodes) and not books.roster.has_full:
        batch.runs += decodes
        batch.room -= len(decodes)
        return
    for sequence in [planned.sequence for planned in decodes if planned.sequence.n_past >= books.limits.n_ctx_slot]:
        if sequence.status is Status.RUNNING:
            shift(books, sequence)
    books.roster.catch_up()
    batch.room = books.free_cells
    _add_one_by_one(books, batch, decodes)


def _add_one_by_one(books: Books, batch: Batch, decodes: Iterable[PlannedRun]) -> None:
    running = Status.RUNNING
    for planned in decodes:
        sequence = planned.sequence
        if sequence.status is not running or not sequence.is_decoding:
            continue
        if batch.room < 1:
            batch.room += books.make_room(1, sequence, batch.preempted)
        if batch.room >= 1 and sequence.status is running:
            # Shifting may have given it another id, and so another run.
            batch.add(planned if planned.run is sequence.run else _planned(sequence, 1), 1)
    if batch.preempted:
        batch.runs = [planned for planned in batch.runs if planned.sequence.status is running]


def add_forced(books: Books, batch: Batch, budget: int) -> int:
    """Let decodes that have more than one token pending compute more of them. Returns how many more in all."""
    taken = 0
    if not books.roster.has_forced:
        return taken
    for index, planned in enumerate(batch.runs):
        sequence = planned.sequence
        wanted = min(_most_pending(books, sequence) - 1, budget - taken)
        if wanted < 1:
            continue
        if batch.room < wanted:
            batch.room += books.cache.evict(wanted - batch.room)
        count = min(wanted, batch.room)
        if count >= 1:
            batch.runs[index] = _planned(sequence, 1 + count)
            batch.room -= count
            taken += count
    return taken


def add_prefills(
    books: Books, batch: Batch, prefills: Iterable[Sequence], budget: int, now: float, blocked: Collection[str]
) -> None:
    """Let prompts have up to ``budget`` tokens of the batch, first come first served."""
    for sequence in prefills:
        if budget < 1:
            break
        if sequence.request.id in blocked or sequence.status is not Status.RUNNING or sequence.is_recalling:
            continue  # is paused, gave way to an older one, or is to be brought back first
        # The token that samples must wait until it is due; a preempted sequence may have to.
        wanted = min(sequence.n_pending - (sequence.next_due > now), budget, _most_pending(books, sequence))
        if wanted < 1:
            continue
        if batch.room < wanted:
            batch.room += books.cache.evict(wanted - batch.room)
        if batch.room < 1 and not batch.runs:
            batch.room += books.make_room(1, sequence, batch.preempted)
            # What a preempted one leaves is idle. Nobody behind this prefill may have it first.
            batch.room += books.cache.evict(max(0, wanted - batch.room))
        count = min(wanted, batch.room)
        if count < 1 or sequence.status is not Status.RUNNING:
            continue
        batch.add(_planned(sequence, count), count)
        budget -= count


def _most_pending(books: Books, sequence: Sequence) -> int:
    """Pending tokens up to where the context is full: with forced tokens that may be before the last of them.

    A medium is computed in a step of its own, and a state is kept between two steps.
    """
    most = min(sequence.next_text, books.limits.n_ctx_slot - sequence.cells(sequence.n_past))
    if sequence.is_scoring:
        most = min(most, _MOST_SCORED)
    return min(most, sequence.save_at[0] - sequence.n_past) if sequence.save_at else most


def _planned(sequence: Sequence, count: int) -> PlannedRun:
    assert sequence.seq is not None, "only running sequences are planned"
    tokens = sequence.tokens[sequence.n_past : sequence.n_past + count]
    run = Run(sequence.seq, sequence.n_past, tokens, count == sequence.n_pending, scored=sequence.is_scoring)
    return PlannedRun(sequence, run)
