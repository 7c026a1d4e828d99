"""Drafts do not change how texts are distributed: drawn at temperature 1 through the real accepting code."""

import random
from collections import Counter
from collections.abc import Buffer

import pytest

from engine.text.requests import GenerationRequest, TokenInfo
from engine.text.speculation.speculation import DraftRules, Speculation
from tests.engine.driver import Driver
from tests.engine.fake_backend import FakeBackend, FakeSampler
from tests.engine.speculation.fake_drafter import FakeDrafter

LENGTH = 3
DRAWS = 6000
TOKENS = (97, 98, 99)
# 99.99% of the chi-square distribution with 26 degrees of freedom.
CRITICAL = 63.2


def weights(history: list[int]) -> list[float]:
    """The fake model's distribution: it depends on the last token."""
    return {97: [0.6, 0.3, 0.1], 98: [0.1, 0.1, 0.8]}.get(history[-1], [0.25, 0.25, 0.5])


class RandomSampler(FakeSampler):
    generator: random.Random

    def sample(self, index: int, mask: Buffer | None = None) -> tuple[int, TokenInfo | None]:
        history = self._backend.histories[index]
        token = self.generator.choices(TOKENS, weights(history))[0]
        self.seen.append(token)
        return token, None


class RandomDrafter(FakeDrafter):
    """Drafts fixed tokens, likely ones and unlikely ones."""

    def propose(self, wanted: dict) -> dict:
        drafts = super().propose(wanted)
        return {
            text: type(draft)(tuple(TOKENS[next(self._pattern) % 3] for _ in draft.tokens), draft.levels, draft.guesses)
            for text, draft in drafts.items()
        }


def probability(tokens: tuple[int, ...]) -> float:
    history, product = [1], 1.0
    for token in tokens:
        product *= weights(history)[TOKENS.index(token)]
        history.append(token)
    return product


@pytest.mark.parametrize("drafted", [False, True])
def test_texts_are_as_frequent_as_they_are_probable(drafted: bool) -> None:
    generator = random.Random(7)
    backend = FakeBackend(n_slots=4)

    def create(params: object) -> RandomSampler:
        sampler = RandomSampler(backend, params)  # type: ignore[arg-type]
        sampler.generator = generator
        backend.samplers.append(sampler)
        return sampler

    backend.create_sampler = create  # type: ignore[method-assign]
    drafters = [RandomDrafter((0, 2, 1, 0, 0, 2, 2))] if drafted else []
    driver = Driver(backend, speculation=Speculation(drafters, DraftRules(longest=4)))
    driver.check = lambda: None  # type: ignore[method-assign]  # checked elsewhere, and slow
    counts: Counter[tuple[int, ...]] = Counter()
    n_drafted = 0
    for index in range(DRAWS):
        box = driver.submit(GenerationRequest(id=str(index), prompt=[1], max_tokens=LENGTH, cache_prompt=False))
        driver.finish()
        counts[tuple(box.tokens)] += 1
        n_drafted += box.finished().timings.draft_n
    expected = {(a, b, c): DRAWS * probability((a, b, c)) for a in TOKENS for b in TOKENS for c in TOKENS}
    assert sum(expected.values()) == pytest.approx(DRAWS)
    assert sum((counts[key] - n) ** 2 / n for key, n in expected.items()) < CRITICAL
    assert (n_drafted > DRAWS) is drafted
