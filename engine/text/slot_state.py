"""What saving, restoring and erasing a free slot does to the books. Pure bookkeeping, as the scheduler is."""

from collections.abc import Buffer

import attrs

from engine.errors import EngineUnavailable, InvalidRequest
from engine.text.books import Books
from engine.text.slots import Remembered
from engine.text.tokens import row


@attrs.frozen
class Held:
    """Cached tokens that an id holds, for as long as their cells are copied or filled."""

    seq: int
    cached: Remembered


def hold(books: Books, slot: int) -> Held:
    """Take an id for what the cache still has of the slot's last sequence.

    Raises InvalidRequest when that is nothing. ``let_go`` must follow.
    """
    left = books.slots.remembered(slot)
    length = 0 if left is None else books.cache.match(left.tokens, left.adapters)
    if left is None or length == 0:
        raise InvalidRequest(f"slot {slot} has nothing in the KV cache", "id_slot")
    seq = books.cache.attach(left.tokens, length, left.adapters)
    return Held(seq, Remembered(left.tokens[:length], left.adapters))


def kept(books: Books, slot: int) -> tuple[Remembered, Buffer]:
    """What is kept of the slot's last sequence where states are, and its state. Raises InvalidRequest for nothing."""
    left, found = books.slots.remembered(slot), None
    if left is not None and books.checkpoints is not None:
        found = books.checkpoints.find(left.tokens, left.adapters)
    if left is None or found is None:
        kept = books.checkpoints
        which = "none are with --cache-ram 0" if kept is None else f"those of {kept.least} tokens and more are"
        raise InvalidRequest(
            f"slot {slot} has nothing that is kept in memory: of this model's prompts {which}", "id_slot"
        )
    tokens, state = found
    return Remembered(tokens, left.adapters), state


def let_go(books: Books, held: Held) -> None:
    """The id is not needed any more; its tokens stay cached."""
    books.cache.release(held.seq)


def is_cached(books: Books, cached: Remembered) -> bool:
    """Whether nothing of it needs to be restored."""
    if books.checkpoints is not None:
        found = books.checkpoints.find(cached.tokens, cached.adapters)
        return found is not None and found[0] == cached.tokens
    return books.cache.match(cached.tokens, cached.adapters) == len(cached.tokens)


def make_place(books: Books, left: Remembered) -> Held:
    """Take an empty id, and make room for that many cells. ``keep`` or ``give_back`` must follow.

    Raises EngineUnavailable when running requests hold the cells.
    """
    wanted = len(left.tokens)
    if not books.room.makes_place(wanted):
        raise EngineUnavailable(
            f"the KV cache has no room for {wanted} tokens beside those of the running requests; try again later"
        )
    return Held(books.cache.attach(row(), 0, left.adapters), left)


def keep(books: Books, held: Held) -> None:
    """The id's cells are filled: they are cached from now on."""
    books.cache.extend(held.seq, held.cached.tokens[:])
    books.cache.release(held.seq)


def keep_apart(books: Books, cached: Remembered, state: Buffer) -> None:
    """Where states are kept, keep this one. Raises InvalidRequest where it has no place."""
    if books.checkpoints is None or not books.checkpoints.put(cached.tokens, cached.adapters, state):
        raise InvalidRequest(
            f"the slot file cannot be restored: this model's prompts are kept in memory, where {len(cached.tokens)} "
            f"tokens take {memoryview(state).nbytes / (1 << 20):.1f} MiB, more than --cache-ram allows",
            "filename",
        )


def give_back(books: Books, held: Held) -> None:
    """The id's cells could not be filled, it is empty."""
    books.cache.release(held.seq)


def erase(books: Books, slot: int) -> int:
    """Forget what the slot remembers. Returns how many cached tokens that were.

    Their cells, or states, are given up, except those that others use: a running request, or a longer cached prompt.
    """
    left = books.slots.remembered(slot)
    if left is None:
        return 0
    length = books.cache.match(left.tokens, left.adapters)
    books.cache.erase(left.tokens, left.adapters)
    if books.host is not None:
        books.host.erase(left.tokens, left.adapters)
    if books.checkpoints is not None:
        length = books.checkpoints.erase(left.tokens, left.adapters)
    books.slots.remember(slot, None)
    return length
