"""Reuse of what an older prompt has in common with a new one behind the place where they part (``--cache-reuse``).

The older prompt's cells are taken over, what the new one lacks is removed, and what follows is moved to the positions
that it has now, as llama-server does it. The moved cells have seen the text that is gone: what they give is close to
what computing them would give, and not the same.
"""

import attrs

from engine.text.books import Books
from engine.text.sequence import Sequence
from engine.text.tokens import Tokens, common_prefix


@attrs.frozen
class Chunk:
    """``length`` tokens of the older prompt from ``start`` on."""

    start: int
    length: int


def find_chunks(older: Tokens, prompt: Tokens, held: int, least: int) -> list[Chunk]:
    """The parts of ``older`` that, one behind the other, are what ``prompt`` has behind its first ``held`` tokens.

    ``held`` tokens are common; each part has ``least`` tokens or more. The prompt's last token is never among them.
    """
    chunks: list[Chunk] = []
    position, end, at = held, len(prompt) - 1, held
    while end - position >= least:
        try:
            at = older.index(prompt[position], at)
        except ValueError:
            break
        length = common_prefix(older[at : at + end - position], prompt[position:end])
        if length >= least:
            chunks.append(Chunk(at, length))
            position += length
            at += length
        else:
            at += 1
    return chunks


def reuse_chunks(books: Books, sequence: Sequence) -> None:
    """Let a sequence that was just started take over the idle prompt that spares it most, if one does."""
    least = books.limits.reuse_chunk
    if least == 0 or sequence.request.media or not sequence.request.cache_prompt or sequence.is_scoring:
        return
    best: tuple[int, Tokens, int, list[Chunk]] | None = None
    for older in books.cache.idle_paths(sequence.adapters):
        held = common_prefix(older, sequence.tokens)
        chunks = find_chunks(older, sequence.tokens, held, least)
        end = held + sum(chunk.length for chunk in chunks)
        if chunks and (best is None or end > best[0]):
            best = (end, older, held, chunks)
    if best is not None and best[0] >= max(sequence.n_past, sequence.recall_to) + least:
        _take_over(books, sequence, *best[1:])


def _take_over(books: Books, sequence: Sequence, older: Tokens, held: int, chunks: list[Chunk]) -> None:
    assert sequence.seq is not None, "only running sequences take over cells"
    reuse = sequence.n_past
    books.open(sequence)
    books.cache.release(sequence.seq)
    seq = books.cache.attach(older, len(older), sequence.adapters)
    if not books.cache.make_private(seq, held):  # a running request shares what would move
        books.cache.release(seq)
        reuse = books.reusable(sequence)
        sequence.seq = books.cache.attach(sequence.tokens, reuse, sequence.adapters)
        sequence.n_past = reuse
        books.close(sequence)
        return
    position = held
    for chunk in chunks:
        books.memory.remove(seq, position, chunk.start)
        books.memory.shift(seq, chunk.start, chunk.start + chunk.length, position - chunk.start)
        position += chunk.length
    books.memory.remove(seq, position, None)
    sequence.seq, sequence.n_past, sequence.recall_to = seq, position, 0
    books.close(sequence)
    sequence.moved = True
    if sequence.counts_cached:
        sequence.n_cached = position
