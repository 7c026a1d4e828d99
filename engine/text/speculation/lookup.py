"""Drafts from text that is there: the sequence's own, and n-grams of other texts.

Prompt lookup decoding (Saxena, 2023, github.com/apoorvumang/prompt-lookup-decoding), with the longest match instead of
a fixed n-gram. The tables of n-grams are those of llama.cpp's lookup example.
"""

from collections.abc import Hashable, Mapping
from typing import Final

from engine.text.sequence import Sequence
from engine.text.speculation.drafter import Draft
from engine.text.speculation.history import History, Match
from engine.text.speculation.ngrams import NGRAM_MAX, NgramFile, NgramTable

LONGEST_MATCH: Final = 32  # tokens; longer matches are no better
# How often the next token was right on a mix of copied and free text, by the least length of the match.
_BY_LENGTH: Final = ((32, 0.95), (16, 0.92), (8, 0.85), (4, 0.7), (3, 0.5), (2, 0.35), (1, 0.2))
_BY_TABLE: Final = 0.4
_LEAST_SHARE: Final = 0.5  # of what followed an n-gram so far
_LEAST_COUNT: Final = 2  # for n-grams of less than three tokens


class Lookup:
    """Satisfies ``engine.text.speculation.drafter.Drafter``.

    ``least``: tokens that must match, 1 to 4. ``static`` n-grams are only read; ``dynamic`` ones learn what is
    generated, and are kept in their file.
    """

    price = 0.0

    def __init__(self, least: int, static: NgramTable | None = None, dynamic: NgramFile | None = None) -> None:
        self._least = least
        self._dynamic = dynamic
        self._tables = [("dynamic", dynamic.table)] if dynamic is not None else []
        self._tables += [("static", static)] if static is not None else []
        self._histories: dict[Sequence, History] = {}

    @property
    def names(self) -> list[str]:
        """The tables that are looked into, the first one first."""
        return [name for name, _ in self._tables]

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, Draft]:
        """See ``Drafter.propose``."""
        drafts = {sequence: self._draft(sequence, count) for sequence, count in wanted.items()}
        return {sequence: draft for sequence, draft in drafts.items() if draft.tokens}

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended; the tables learn what it generated."""
        self._histories.pop(sequence, None)
        if self._dynamic is not None and sequence.n_generated:
            tokens = sequence.tokens
            self._dynamic.table.learn(tokens, max(0, len(tokens) - sequence.n_generated), self._least)

    def idle(self) -> None:
        """See ``Drafter.idle``."""
        if self._dynamic is not None:
            self._dynamic.save_sometimes()

    def close(self) -> None:
        """See ``Drafter.close``."""
        if self._dynamic is not None:
            self._dynamic.save()

    def _draft(self, sequence: Sequence, count: int) -> Draft:
        history = self._histories.setdefault(sequence, History())
        history.follow(sequence)
        match = history.match(LONGEST_MATCH)
        if match is not None and match.length >= self._least:
            return _of_match(history.after(match, count), match)
        return self._of_tables(history, count) if self._tables else Draft()

    def _of_tables(self, history: History, count: int) -> Draft:
        text = history.tokens[-NGRAM_MAX:].tolist()
        tokens: list[int] = []
        levels: list[Hashable] = []
        while len(tokens) < count and (found := self._next(text)) is not None:
            token, level = found
            tokens.append(token)
            levels.append(level)
            text = [*text, token][-NGRAM_MAX:]
        return Draft(tuple(tokens), tuple(levels), (_BY_TABLE,) * len(tokens))

    def _next(self, text: list[int]) -> tuple[int, Hashable] | None:
        """What the tables say most often follows on the longest n-gram that they know, if they are sure enough."""
        for name, table in self._tables:
            for n in range(min(NGRAM_MAX, len(text)), self._least - 1, -1):
                found = table.best(tuple(text[-n:]))
                if found is not None and found.share >= _LEAST_SHARE and (n > 2 or found.count >= _LEAST_COUNT):
                    return found.token, (name, n)
        return None


def _of_match(tokens: list[int], match: Match) -> Draft:
    """Each token that is right makes the match one longer for the next."""
    buckets = [_bucket(match.length + index) for index in range(len(tokens))]
    return Draft(tuple(tokens), tuple(("text", least) for least, _ in buckets), tuple(guess for _, guess in buckets))


def _bucket(length: int) -> tuple[int, float]:
    return next(entry for entry in _BY_LENGTH if length >= entry[0])
