"""A drafter that is right as often as it is told to be."""

import itertools
from collections.abc import Mapping, Sequence

from engine.text.sequence import Sequence as Text
from engine.text.speculation.drafter import Draft
from tests.engine.fake_backend import next_token

WRONG = 35  # a token that the fake model never says


class FakeDrafter:
    """Its n-th draft has ``pattern[n]`` right tokens, then a wrong one and more right ones; the pattern repeats."""

    def __init__(self, pattern: Sequence[int], *, price: float | None = 0.0) -> None:
        self.price = price
        self._pattern = itertools.cycle(pattern)
        self.asked: list[int] = []
        self.forgotten: list[Text] = []
        self.n_idle = 0
        self.closed = False

    def propose(self, wanted: Mapping[Text, int]) -> dict[Text, Draft]:
        drafts: dict[Text, Draft] = {}
        for text, count in wanted.items():
            self.asked.append(count)
            right = next(self._pattern)
            tokens = list(text.tokens)
            for index in range(count):
                tokens.append(WRONG if index == right else next_token(tokens, text.adapters))
            drafted = tuple(tokens[len(text.tokens) :])
            drafts[text] = Draft(drafted, ("fake",) * count, (0.9,) * count)
        return drafts

    def forget(self, sequence: Text) -> None:
        self.forgotten.append(sequence)

    def idle(self) -> None:
        self.n_idle += 1

    def close(self) -> None:
        self.closed = True
