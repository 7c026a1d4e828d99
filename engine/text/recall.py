"""One step's copies between the KV cache and host memory: who was just admitted gets back what it lacks.

Works on the scheduler's books between admission and planning, so that a request computes in the very step in which the
last of its tokens came back.
"""

from collections.abc import Hashable
from math import inf
from typing import Protocol

from engine.text.books import Books
from engine.text.cell_rent import CellRent
from engine.text.host_memory import HostFigures, HostMemory
from engine.text.sequence import Sequence
from engine.text.tokens import Tokens

# Tokens that others compute until an idle prompt moves to host memory, at least. The rule of ``engine.text.cell_rent``
# gives 5 where a cell costs each of them 0.9 µs and to copy it out or in takes 2.5 µs (measured, Qwen 0.5B, two cores).
# Who comes back soon need not be copied at all, hence more.
MOVE_AGE = 256

# Share of a step's time that copies may take while somebody else's tokens wait for them.
_SHARE = 0.25


class Recalled(Protocol):
    """What prompts come back from: ``HostMemory`` or ``Checkpoints``."""

    figures: HostFigures

    @property
    def may_copy(self) -> bool: ...

    def needed(self, tokens: Tokens, position: int, key: Hashable) -> int: ...

    def restore(self, seq: int, tokens: Tokens, position: int, upto: int, key: Hashable) -> int: ...


def budget(books: Books, target: float) -> float:
    """Seconds that copies may take in this step; ``target``: what a step may take while streams are running.

    Without streams nobody but the newcomer waits, and to save what it displaces is cheaper than to compute that again.
    """
    return target * _SHARE if any(sequence.is_decoding for sequence in books.running) else inf


def recall(books: Books, host: Recalled, seconds: float) -> None:
    """Bring back for running sequences what they wait for: first come first served, ``seconds`` of it at most."""
    until = host.figures.restore_seconds + seconds
    for sequence in list(books.running):
        while sequence.is_recalling and host.may_copy and host.figures.restore_seconds < until:
            if not _bring_back(books, host, sequence):
                sequence.recall_to = 0  # it computes the rest
        if not sequence.is_recalling:
            sequence.recall_to = 0


def prepare(books: Books, host: HostMemory, rent: CellRent) -> None:
    """Save a block of what will be given up soon, so that it need not be saved when somebody waits for its place.

    Called once a step. What nobody has asked for in a while moves: it is given up as soon as host memory has all of it.
    Where idle cells cost nobody anything they stay until there is no free id.
    A while: until its cells have cost what it takes to copy them out and in, MOVE_AGE at least.
    """
    oldest = books.cache.oldest_idle
    if oldest is None:
        return
    leaf, _ = oldest
    age = max(MOVE_AGE, rent.tokens(host.cost.out_and_in) or 0)
    aged = books.cache.idle_costs and host.roomy and leaf.used_at < books.cache.clock - age
    if aged or not books.cache.n_free or books.free_cells < books.limits.n_batch:
        host.prepare(*oldest)
    if aged and host.holds(leaf):
        books.cache.evict(leaf.cells)


def _bring_back(books: Books, host: Recalled, sequence: Sequence) -> bool:
    """One block. False: it is not there, or finds no room."""
    assert sequence.seq is not None, "only running sequences are brought back"
    needed = host.needed(sequence.tokens, sequence.n_past, sequence.adapters)
    books.cache.evict(max(0, needed - books.free_cells))
    if not 0 < needed <= books.free_cells:
        return False
    end = host.restore(sequence.seq, sequence.tokens, sequence.n_past, sequence.recall_to, sequence.adapters)
    if end == sequence.n_past:
        return False
    books.open(sequence)
    sequence.n_past = end
    books.share(sequence, end)
    books.close(sequence)
    if sequence.counts_cached:
        sequence.n_cached = sequence.cells(end)
    return True
