"""What saving, restoring and erasing a free slot does to the books. Pure bookkeeping, as the scheduler is."""

import attrs

from engine.errors import EngineUnavailable, InvalidRequest
from engine.text.books import Books
from engine.text.slots import Remembered


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


def let_go(books: Books, held: Held) -> None:
    """The id is not needed any more; its tokens stay cached."""
    books.cache.release(held.seq)


def make_place(books: Books, left: Remembered) -> Held:
    """Take an empty id, and make room for that many cells. ``keep`` or ``give_back`` must follow.

    Raises EngineUnavailable when running requests hold the cells.
    """
    wanted = len(left.tokens)
    if not books.room.makes_place(wanted):
        raise EngineUnavailable(
            f"the KV cache has no room for {wanted} tokens beside those of the running requests; try again later"
        )
    return Held(books.cache.attach((), 0, left.adapters), left)


def keep(books: Books, slot: int, held: Held) -> None:
    """The id's cells are filled: they are cached from now on, and the slot remembers them."""
    books.cache.extend(held.seq, held.cached.tokens)
    books.cache.release(held.seq)
    books.slots.remember(slot, held.cached)


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
