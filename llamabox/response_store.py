"""Responses in memory, for conversations that go on by the id of the last one. Pure bookkeeping over JSON texts."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

_MAX_BYTES: Final = 64 * 2**20
_MAX_RESPONSES: Final = 10_000


@attrs.define(eq=False)
class Turn:
    """What one request added to a conversation: JSON texts of its input items and of its output items.

    ``ids``: those of the output items. The turns before are shared by all that go on from them.
    """

    before: "Turn | None"
    given: Sequence[bytes]
    answer: Sequence[bytes]
    ids: Sequence[str] = ()
    size: int = attrs.field(init=False)
    total: int = attrs.field(init=False)  # with the turns before
    holders: int = attrs.field(
        default=0, init=False
    )  # kept responses that end here, counted turns that go on from here

    def __attrs_post_init__(self) -> None:
        self.size = sum(map(len, self.given)) + sum(map(len, self.answer))
        self.total = self.size + (0 if self.before is None else self.before.total)

    @property
    def input(self) -> list[bytes]:
        """All that stood before the answer, in order."""
        return [*(() if self.before is None else self.before.items), *self.given]

    @property
    def items(self) -> list[bytes]:
        """The whole conversation, in order."""
        return [item for turn in reversed(list(_back_from(self))) for item in (*turn.given, *turn.answer)]


@attrs.frozen
class Kept:
    """A kept response: ``head`` is the JSON text of its object without the output."""

    head: bytes
    turn: Turn


class ResponseStore:
    """Keeps responses up to a number and a size, which counts each turn once; the least recently used go first.

    A turn stays as long as a response needs it that ends there or goes on from there. What is too large to fit by
    itself is not kept.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES, max_responses: int = _MAX_RESPONSES) -> None:
        self._max_bytes = max_bytes
        self._max_responses = max_responses
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the least recently used first
        self._items: dict[str, bytes] = {}  # what was answered, as long as its turn counts
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return self._bytes

    def get(self, response_id: str) -> Kept | None:
        """The response, which counts as a use of it."""
        if response_id in self._kept:
            self._kept.move_to_end(response_id)
        return self._kept.get(response_id)

    def item(self, item_id: str) -> bytes | None:
        """An output item of a turn that is still needed."""
        return self._items.get(item_id)

    def keep(self, response_id: str, kept: Kept) -> None:
        """Keep a response under an id of its own; others may have to go."""
        assert response_id not in self._kept, "every response has an id of its own"
        if len(kept.head) + kept.turn.total > self._max_bytes or not self._max_responses:
            return
        self._kept[response_id] = kept
        self._bytes += len(kept.head)
        self._hold(kept.turn)
        while self._bytes > self._max_bytes or len(self._kept) > self._max_responses:
            self.delete(next(iter(self._kept)))

    def delete(self, response_id: str) -> bool:
        """Forget a response. False: there is none."""
        kept = self._kept.pop(response_id, None)
        if kept is None:
            return False
        self._bytes -= len(kept.head)
        self._release(kept.turn)
        return True

    def _hold(self, last: Turn) -> None:
        for turn in _back_from(last):
            turn.holders += 1
            if turn.holders > 1:
                return  # it and those before it count already
            self._bytes += turn.size
            self._items.update(zip(turn.ids, turn.answer, strict=False))

    def _release(self, last: Turn) -> None:
        for turn in _back_from(last):
            turn.holders -= 1
            if turn.holders:
                return
            self._bytes -= turn.size
            for item_id in turn.ids:
                self._items.pop(item_id, None)


def _back_from(last: Turn) -> Iterator[Turn]:
    turn: Turn | None = last
    while turn is not None:
        yield turn
        turn = turn.before
