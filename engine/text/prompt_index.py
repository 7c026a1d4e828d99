"""Running prompts by the tokens that they compute next, to find who computes what a new one has in common with it."""

from bisect import bisect_right, insort
from collections.abc import Sequence as Row
from operator import attrgetter
from typing import Final

from engine.text.sequence import Sequence
from engine.text.tokens import Tokens

# Tokens: fewer that are in common with a prompt, behind what is cached of it, are not worth waiting for.
LEAST_COMMON: Final = 16

_ADMISSION: Final = attrgetter("admission")


class PromptIndex:
    """Each sequence is filed under where the last of its next LEAST_COMMON tokens is, and there under that token."""

    def __init__(self) -> None:
        self._places: dict[int, dict[int, list[Sequence]]] = {}
        self._order: list[int] = []  # of the places
        self._filed: dict[int, tuple[int, int]] = {}  # by arrival; not those that have fewer tokens left of the prompt

    def file(self, sequence: Sequence) -> None:
        """Put it where it belongs now. Must be called whenever it is at another place, or its prompt another."""
        last = sequence.n_past + LEAST_COMMON - 1
        where = (last, sequence.tokens[last]) if last < sequence.n_prefill else None
        if where == self._filed.get(sequence.arrival):
            return
        self.remove(sequence)
        if where is not None:
            place = self._places.get(last)
            if place is None:
                place = self._places[last] = {}
                insort(self._order, last)
            place.setdefault(where[1], []).append(sequence)
            self._filed[sequence.arrival] = where

    def remove(self, sequence: Sequence) -> None:
        """It computes no prompt any more."""
        where = self._filed.pop(sequence.arrival, None)
        if where is None:
            return
        last, token = where
        place = self._places[last]
        place[token].remove(sequence)
        if not place[token]:
            del place[token]
            if not place:
                del self._places[last]
                self._order.remove(last)

    def near(self, tokens: Tokens, held: int) -> list[Sequence]:
        """Who may have LEAST_COMMON tokens or more in common with a prompt behind the ``held`` that are cached of it.

        That is nobody who has come further: it has put that into the cache, where the two part no later than there.
        Of all others the tokens that they are filed under have to be common, and the last of those that are wanted.
        In order of admission.
        """
        last = held + LEAST_COMMON - 1
        if last >= len(tokens):
            return []
        places, reachable = self._places, self._order[: bisect_right(self._order, last)]
        alike = [places[at][tokens[at]] for at in reachable if tokens[at] in places[at]]
        if not alike:  # nearly always
            return []
        token = tokens[last]
        found = [
            sequence
            for sequences in alike
            for sequence in sequences
            if last < sequence.n_prefill and sequence.tokens[last] == token
        ]
        found.sort(key=_ADMISSION)
        return found

    def check_integrity(self, prefills: Row[Sequence]) -> None:
        """Raise AssertionError where these are not filed, each where it belongs, or others are."""
        filed = {
            sequence.arrival: (at, token)
            for at, place in self._places.items()
            for token, sequences in place.items()
            for sequence in sequences
        }
        assert filed == self._filed, "prompts are filed elsewhere than is known"
        due = {
            sequence.arrival: (last, sequence.tokens[last])
            for sequence in prefills
            if (last := sequence.n_past + LEAST_COMMON - 1) < sequence.n_prefill
        }
        assert self._order == sorted(self._places), "places that are not in order"
        assert filed == due, "prompts are filed where they do not belong"
        assert all(place and all(place.values()) for place in self._places.values()), "places that nobody is at"
