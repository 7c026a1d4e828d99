"""Drafts do not change how texts are distributed: drawn at temperature 1 through the real accepting code."""

import random
from collections import Counter
from collections.abc import Buffer, Callable

import numpy as np
import pytest

from engine.text.requests import GenerationRequest, TokenInfo
from engine.text.speculation.draft_model import DraftModel
from engine.text.speculation.drafter import Drafter
from engine.text.speculation.lookup import Lookup
from engine.text.speculation.speculation import DraftRules, Speculation
from tests.engine.driver import Driver
from tests.engine.fake_backend import FakeBackend, FakeSampler
from tests.engine.speculation.fake_draft_model import FakeContext, FakeModel
from tests.engine.speculation.fake_drafter import FakeDrafter

LENGTH = 3
DRAWS = 6000
TOKENS = (97, 98, 99)
# What is looked up behind the last token is a likely text after 1 99, and an unlikely one after 1 97.
PROMPT = [1, 97, 99, 97, 1, 99, 99, 98, 99, 1]
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


def model_guess(last: int) -> np.ndarray:
    """Logits of a draft model that is sure of what the model finds likely after 99, and unlikely after 98."""
    row = np.full(257, -30.0, np.float32)
    likely = {97: [2.0, 0.0, 0.0], 98: [3.0, 0.0, 0.0]}.get(last, [0.0, 1.0, 2.0])
    row[list(TOKENS)] = likely
    return row


def nobody() -> list[Drafter]:
    return []


def at_random() -> list[Drafter]:
    return [RandomDrafter((0, 2, 1, 0, 0, 2, 2))]


def lookup() -> list[Drafter]:
    return [Lookup(1)]


def draft_model() -> list[Drafter]:
    return [DraftModel(FakeModel(), FakeContext(model_guess), 257, 0.4, 1000.0)]  # type: ignore[arg-type]


def probability(tokens: tuple[int, ...]) -> float:
    history, product = [1], 1.0
    for token in tokens:
        product *= weights(history)[TOKENS.index(token)]
        history.append(token)
    return product


@pytest.mark.parametrize("drafters", [nobody, at_random, lookup, draft_model])
def test_texts_are_as_frequent_as_they_are_probable(drafters: Callable[[], list[Drafter]]) -> None:
    generator = random.Random(7)
    backend = FakeBackend(n_slots=4)

    def create(params: object) -> RandomSampler:
        sampler = RandomSampler(backend, params)  # type: ignore[arg-type]
        sampler.generator = generator
        backend.samplers[:] = [sampler]
        return sampler

    backend.create_sampler = create  # type: ignore[method-assign]
    driver = Driver(backend, speculation=Speculation(drafters(), DraftRules(longest=4)))
    driver.check = lambda: None  # type: ignore[method-assign]  # checked elsewhere, and slow
    backend.before_decode = lambda batch: driver.clock.on(0.05)
    counts: Counter[tuple[int, ...]] = Counter()
    n_drafted = n_right = 0
    for index in range(DRAWS):
        box = driver.submit(GenerationRequest(id=str(index), prompt=PROMPT, max_tokens=LENGTH, cache_prompt=False))
        driver.finish()
        counts[tuple(box.tokens)] += 1
        timings = box.finished().timings
        n_drafted += timings.draft_n
        n_right += timings.draft_n_accepted
    driver.loop.close()
    expected = {(a, b, c): DRAWS * probability((a, b, c)) for a in TOKENS for b in TOKENS for c in TOKENS}
    assert sum(expected.values()) == pytest.approx(DRAWS)
    assert sum((counts[key] - n) ** 2 / n for key, n in expected.items()) < CRITICAL
    if drafters is not nobody:
        assert n_drafted > DRAWS / 2, "hardly anything was drafted"
        assert n_drafted * 0.1 < n_right < n_drafted * 0.9, "drafts were hardly ever right, or hardly ever wrong"
