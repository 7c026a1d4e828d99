"""How much room for cells there is: in one pool for all ids, or in a stream of cells for each of them."""

from typing import TYPE_CHECKING, Protocol

from engine.text.plan import Batch
from engine.text.prefix_cache import PrefixCache
from engine.text.sequence import Sequence
from engine.text.stream_cache import StreamCache
from engine.text.stream_order import StreamOrder

if TYPE_CHECKING:
    from engine.text.books import Books


class Room(Protocol):
    """What the books ask about cells. All counts are of cells."""

    @property
    def used(self) -> int:
        """Held by running requests and by the cache."""

    @property
    def active(self) -> int:
        """Held by running requests."""

    @property
    def free(self) -> int:
        """Those that running requests may claim, all together."""

    def admits(self, sequence: Sequence, reuse: int) -> bool:
        """Whether its pending tokens fit beside the running ones, each of which may grow by one meanwhile."""

    def makes_place(self, wanted: int) -> bool:
        """Make room for so many cells of a new id at the cost of idle ones. False: running requests hold the cells."""

    def arrange(self, batch: Batch) -> None:
        """Put its runs in the order that is computed best."""

    def check_integrity(self) -> None:
        """Raise AssertionError where more is used than there is."""


class Pool:
    """All ids share the cells, and a cell may belong to several ids."""

    def __init__(self, books: "Books") -> None:
        self._books = books

    @property
    def used(self) -> int:
        """See Room."""
        return self._books.cache.cells + self._books.private_cells

    @property
    def active(self) -> int:
        """See Room."""
        return self.used - self._books.cache.idle_cells

    @property
    def free(self) -> int:
        """See Room. One that runs alone may try all that there are."""
        books = self._books
        return (books.ceiling if len(books.running) > 1 else books.limits.n_cells) - self.used

    def admits(self, sequence: Sequence, reuse: int) -> bool:
        """See Room."""
        books = self._books
        wanted = sequence.cells(len(sequence.tokens), reuse) + len(books.running) + 1
        available = books.ceiling - self.used + books.cache.idle_cells
        if wanted + sequence.cells(reuse) <= available:
            return True
        return wanted <= available - books.cache.idle_in_prefix(sequence.tokens, reuse, sequence.adapters)

    def makes_place(self, wanted: int) -> bool:
        """See Room."""
        books = self._books
        free = (books.ceiling if books.running else books.limits.n_cells) - self.used
        if wanted > free + books.cache.idle_cells:
            return False
        books.cache.evict(max(0, wanted - free))
        return True

    def arrange(self, batch: Batch) -> None:
        """See Room: any order will do."""

    def check_integrity(self) -> None:
        """See Room."""
        assert self.used <= self._books.limits.n_cells, "more cells in use than there are"


class Streams:
    """Each id has cells of its own for as many tokens as a slot may hold: nobody gives way to anybody.

    The cache is a ``StreamCache``. That no sequence outgrows its slot is the business of whoever plans, in a pool too.
    """

    def __init__(self, books: "Books", cache: StreamCache) -> None:
        self._books = books
        self._cache = cache
        self._order = StreamOrder(books.limits.n_seqs, books.memory)

    @property
    def used(self) -> int:
        """See Room: copies count each."""
        return self._cache.used + self._books.private_cells

    @property
    def active(self) -> int:
        """See Room."""
        return self._cache.used_active + self._books.private_cells

    @property
    def free(self) -> int:
        """See Room: more than can be claimed."""
        return self._books.limits.n_cells

    def admits(self, sequence: Sequence, reuse: int) -> bool:
        """See Room: who has a slot has a stream."""
        return True

    def makes_place(self, wanted: int) -> bool:
        """See Room: who has a slot has a stream."""
        return True

    def arrange(self, batch: Batch) -> None:
        """See Room: sequences are computed at once whose streams follow on each other, and so do their tokens."""
        self._order.arrange(batch.runs)
        if batch.n_plain < len(batch.runs):
            batch.n_plain = 0  # the others are anywhere among them now

    def check_integrity(self) -> None:
        """See Room."""
        n_ctx_slot = self._books.limits.n_ctx_slot
        assert self.used <= len(self._books.cache.spans()) * n_ctx_slot, "more cells in use than there are"


def open_room(books: "Books") -> Room:
    """The one that goes with the cache of the books."""
    return Streams(books, books.cache) if isinstance(books.cache, StreamCache) else Pool(books)


def open_cache(books: "Books") -> PrefixCache:
    """The one that goes with the limits of the books."""
    kind = PrefixCache if books.limits.kv_unified else StreamCache
    return kind(books.limits.n_seqs, books.memory, books.host)
