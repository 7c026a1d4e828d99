"""What happens to a sequence whose context is full: old tokens go, those before them and behind them stay."""

from engine.text.books import Books
from engine.text.sequence import Sequence


def shift(books: Books, sequence: Sequence) -> None:
    """Drop tokens behind the kept ones: by moving cells where nobody shares them, else by computing again."""
    assert sequence.seq is not None, "only running sequences shift"
    books.open(sequence)
    keep, discard = drop(books, sequence, sequence.n_past)
    if not books.cache.make_private(sequence.seq, keep):
        books.close(sequence)
        books.restart(sequence)
        return
    books.memory.remove(sequence.seq, keep, keep + discard)
    books.memory.shift(sequence.seq, keep + discard, None, -discard)
    sequence.n_past -= discard
    sequence.n_prefill = min(sequence.n_prefill, sequence.n_past)
    sequence.shifted = True
    books.close(sequence)


def drop(books: Books, sequence: Sequence, length: int) -> tuple[int, int]:
    """Take tokens out of the first ``length`` of a full sequence. Returns (tokens kept before them, how many)."""
    request = sequence.request
    keep = len(request.prompt) if request.n_keep < 0 else request.n_keep
    keep = min(max(keep, books.limits.n_keep_always), length - 2)
    left = length - keep
    discard = min(request.n_discard or max(1, left // 2), left - 1)
    tokens = sequence.tokens  # a slot may remember the row as it is
    sequence.tokens = tokens[:keep] + tokens[keep + discard :]
    sequence.truncated = True
    for waiting in books.waiting:  # what they had in common is another now
        waiting.shared_prefix.pop(sequence.arrival, None)
        if waiting.awaited is sequence:
            waiting.awaited = None
    sequence.shared_prefix.clear()
    return keep, discard
