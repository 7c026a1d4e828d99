"""Synthetic arrivals: conversations of one or more turns whose prompts share what such prompts share.

A turn's prompt is everything before it, the generated tokens included, and what is new. Lengths are drawn around
what such requests have; tokens are random numbers, made when they are needed, the same for the same seed.
"""

from collections.abc import Callable

import attrs
import numpy as np

N_VOCAB = 32768


@attrs.frozen
class Turn:
    """``fresh`` tokens of its own behind what came before, ``n_output`` tokens of answer, then ``think`` seconds."""

    fresh: int
    n_output: int
    think: float


@attrs.frozen
class Conversation:
    """``shared`` names the texts that its first prompt begins with, as (name, length), in order."""

    start: float  # seconds
    seed: int
    shared: tuple[tuple[int, int], ...]
    turns: tuple[Turn, ...]

    def opening(self) -> list[int]:
        """The tokens of the shared texts."""
        return [token for name, length in self.shared for token in text(name, length)]


def text(seed: int, length: int) -> list[int]:
    """``length`` tokens, the same for the same seed."""
    return np.random.default_rng(seed).integers(0, N_VOCAB, length).tolist()


class _Draw:
    """Whole numbers and seconds around a mean."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def about(self, mean: float) -> int:
        """Log-normal around the mean (sigma 0.6): many short ones, few long ones; at least 1."""
        return max(1, int(self.rng.lognormal(np.log(mean) - 0.18, 0.6)))

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def seconds(self, mean: float) -> float:
        return float(self.rng.exponential(mean))


def _chat(draw: _Draw, n_output: int) -> tuple[tuple[tuple[int, int], ...], list[Turn]]:
    """One of 8 system prompts of 300 to 1,700 tokens, 1 to 6 turns of a few dozen tokens, about 20 s between them."""
    prompt = draw.between(0, 7)
    turns = [Turn(draw.about(60), draw.about(n_output), draw.seconds(20)) for _ in range(draw.between(1, 6))]
    return ((prompt, 300 + 200 * prompt),), turns


def _agents(draw: _Draw, n_output: int) -> tuple[tuple[tuple[int, int], ...], list[Turn]]:
    """One of 4 sets of tools of 2,000 tokens, 5 to 20 turns with results of about 400 tokens, 2 s between them."""
    turns = [Turn(draw.about(400), draw.about(n_output), draw.seconds(2)) for _ in range(draw.between(5, 20))]
    return ((100 + draw.between(0, 3), 2000),), turns


def _rag(draw: _Draw, n_output: int) -> tuple[tuple[tuple[int, int], ...], list[Turn]]:
    """Common instructions, 4 of 300 documents of 200 to 800 tokens, the popular ones more often, and a question."""
    ranks = [min(299, int(draw.rng.zipf(1.4)) - 1) for _ in range(4)]
    documents = tuple((1000 + rank, 200 + rank * 7919 % 601) for rank in dict.fromkeys(ranks))
    return ((999, 200), *documents), [Turn(draw.about(30), draw.about(n_output), 0.0)]


_KINDS: dict[str, Callable[[_Draw, int], tuple[tuple[tuple[int, int], ...], list[Turn]]]] = {
    "chat": _chat,
    "agents": _agents,
    "rag": _rag,
}
KINDS = tuple(_KINDS)


def conversations(kind: str, n_requests: int, rate: float, n_output: int, seed: int) -> list[Conversation]:
    """Conversations of ``n_requests`` turns in all that begin as a Poisson process.

    ``rate``: requests per second on average while they begin, over all turns; ``n_output``: mean tokens of an answer.
    """
    draw, found, left = _Draw(seed), [], n_requests
    while left > 0:
        shared, turns = _KINDS[kind](draw, n_output)
        found.append((shared, tuple(turns[:left])))
        left -= len(found[-1][1])
    start, result = 0.0, []
    for index, (shared, turns) in enumerate(found):
        result.append(Conversation(start, seed * 1_000_003 + 10_000 + index, shared, turns))
        start += draw.seconds(n_requests / len(found) / rate)
    return result
