"""A context that computes no model: its logits are a function of the last token. Wrong books are errors here."""

from collections.abc import Callable

import numpy as np


class FakeVocab:
    n_vocab = 257


class FakeModel:
    vocab = FakeVocab()

    def close(self) -> None:
        """Nothing is open."""


class FakeBatch:
    def __init__(self) -> None:
        self.runs: list[tuple[int, int, list[int]]] = []

    def clear(self) -> None:
        self.runs = []

    def add_run(self, seq: int, start: int, tokens: list[int], *, logits: bool) -> int:
        assert logits
        self.runs.append((seq, start, tokens))
        return sum(len(run) for _, _, run in self.runs) - 1


class FakeMemory:
    """Tokens by sequence."""

    def __init__(self) -> None:
        self.held: dict[int, list[int]] = {}

    def remove(self, seq: int, begin: int, end: int | None) -> None:
        assert end is None
        del self.held.get(seq, [])[begin:]


class FakeContext:
    """What a draft model needs of one; ``guess`` gives the logits behind a token."""

    n_seqs, n_ctx, n_batch = 2, 128, 64

    def __init__(self, guess: Callable[[int], np.ndarray]) -> None:
        self._guess = guess
        self.memory = FakeMemory()
        self._tokens: list[int] = []

    def new_batch(self) -> FakeBatch:
        return FakeBatch()

    def decode(self, batch: FakeBatch) -> int:
        self._tokens = []
        for seq, start, tokens in batch.runs:
            held = self.memory.held.setdefault(seq, [])
            assert len(held) == start, "a run does not begin where the memory ends"
            held += tokens
            self._tokens += tokens
        return 0

    def logits_row(self, index: int) -> np.ndarray:
        return self._guess(self._tokens[index])

    def close(self) -> None:
        """Nothing is open."""
