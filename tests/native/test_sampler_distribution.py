"""What is drawn is as frequent as in llama.cpp's own chain over the whole vocabulary: chi-square over 20,000 draws."""

import math
from collections import Counter
from collections.abc import Iterator

import attrs
import numpy as np
import pytest

from engine.native.model import Model
from engine.native.options import ModelOptions
from engine.text.requests import SamplingParams
from tests.native.rows import Rows, mask_of

DRAWS = 20_000
SMALL, LARGE = 512, 9_001  # a large vocabulary is searched before the chain runs
NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=11)
PENALTIES = {"repeat_penalty": 1.5, "frequency_penalty": 0.5, "presence_penalty": 0.25, "repeat_last_n": 8}
LIGHT = {"repeat_penalty": 1.1, "presence_penalty": 0.2, "repeat_last_n": 8}
DRY = {"dry_multiplier": 1.5, "dry_allowed_length": 1, "dry_penalty_last_n": 8}
HISTORY = 8  # tokens that bring penalties back to where they were


@attrs.frozen
class Case:
    """``share``: of all tokens, how many a grammar allows."""

    name: str
    params: SamplingParams
    n_vocab: int = LARGE
    share: float | None = None
    likely: bool = False  # most of the best tokens are forbidden, so that few of them are left


def on(**values: object) -> SamplingParams:
    return attrs.evolve(NEUTRAL, **values)


CASES = [
    Case("penalties", on(**PENALTIES)),
    Case("light penalties", on(top_k=20, **LIGHT)),
    Case("penalties of everything", on(temperature=0.7, top_k=20, **PENALTIES)),
    Case("penalties behind top_k", on(samplers=("top_k", "penalties"), top_k=20, **PENALTIES)),
    Case("dry", on(**DRY), SMALL),
    Case("dry before top_k", on(top_k=20, **DRY), SMALL),
    Case("top_k", on(top_k=15)),
    Case("typ_p", on(typical_p=0.6), SMALL),
    Case("top_p", on(top_p=0.6)),
    Case("top_p, more", on(top_p=0.9)),
    Case("top_p, small", on(top_p=0.6), SMALL),
    Case("top_p that keeps more", on(top_p=0.05, min_keep=9)),
    Case("min_p", on(min_p=0.05)),
    Case("min_p, small", on(min_p=0.05), SMALL),
    Case("min_p that keeps more", on(min_p=0.9, min_keep=9), SMALL),
    Case("xtc", on(xtc_probability=0.5, xtc_threshold=0.02), SMALL),
    Case("temperature", on(temperature=1.4), SMALL),
    Case("none", NEUTRAL),
    Case("none, many allowed", NEUTRAL, share=0.7),
    Case("dynamic temperature", on(temperature=1.0, dynatemp_range=0.5), SMALL),
    Case("top_n_sigma", on(top_n_sigma=1.5, samplers=("top_n_sigma",)), SMALL),
    Case("default", SamplingParams(seed=5)),
    Case("default and penalties", SamplingParams(seed=5, **PENALTIES)),
    Case("default without top_k", SamplingParams(seed=5, top_k=0)),
    Case("bias", SamplingParams(seed=5, logit_bias=((7, 9.0), (8, 9.0), (9, 9.0), (10, 9.0)))),
    Case("bias and penalties", on(top_k=30, logit_bias=((7, 9.0), (8, 9.0), (9, 9.0), (10, 9.0)), **PENALTIES)),
    Case("default, few allowed", SamplingParams(seed=5, temperature=2.0, min_p=0.01), share=0.03),
    Case("default, many allowed", SamplingParams(seed=5), share=0.7),
    Case("default, many allowed, none of the best", SamplingParams(seed=5), share=0.9, likely=True),
    Case("default and penalties, many allowed", SamplingParams(seed=5, **PENALTIES), share=0.7),
    Case("top_p, many allowed", on(top_p=0.6), share=0.7),
]


@pytest.fixture(scope="module")
def model(tiny_model: object) -> Iterator[Model]:
    model = Model(ModelOptions(path=str(tiny_model)))
    yield model
    model.close()


class Setting:
    """A row of logits, the tokens before it and the allowed ones, for a case."""

    def __init__(self, model: Model, case: Case) -> None:
        rng = np.random.default_rng(len(case.name))
        self.rows = Rows(model, (rng.standard_normal(case.n_vocab) * 3).astype(np.float32))
        best = np.argsort(-self.rows.row)
        # Likely tokens, some of them twice, and a repetition that the best token would go on with.
        self.history = [int(best[n]) for n in (3, 0, 1, 2, 3, 0, 1, 3)]
        assert len(self.history) == HISTORY
        self.allowed = None
        if case.share is not None:
            allowed = rng.random(case.n_vocab) < case.share
            if case.likely:
                allowed[best[:90]] = False
            self.allowed = np.flatnonzero(allowed)

    def probabilities(self, params: SamplingParams) -> dict[int, float]:
        """Of the first draw by the library's chain."""
        if 0 < params.xtc_probability < 1:
            never = self.probabilities(attrs.evolve(params, xtc_probability=0.0))
            always = self.probabilities(attrs.evolve(params, xtc_probability=1.0))
            share = params.xtc_probability
            return {token: (1 - share) * p + share * always.get(token, 0.0) for token, p in never.items()}
        native = self.rows.native(params, self.history)
        found = native.choose(self.rows.row, self.allowed)[1]
        native.close()
        return {token: p for token, p in found.items() if p > 0}

    def draws(self, params: SamplingParams) -> Counter[int]:
        """By our sampler, each one after the same tokens."""
        sampler = self.rows.sampler(params, self.history)
        mask = None if self.allowed is None else mask_of(self.allowed, self.rows.n_vocab)
        looks_back = params.repeat_penalty != 1 or params.dry_multiplier != 0
        counts: Counter[int] = Counter()
        for _ in range(DRAWS):
            counts[sampler.sample(0, mask)[0]] += 1
            if looks_back:
                sampler.accept(self.history)
        sampler.close()
        return counts


def chi_square(counts: Counter[int], probabilities: dict[int, float]) -> tuple[float, float]:
    """The statistic, and what it exceeds once in 10,000 times. Tokens expected fewer than 5 times count as one."""
    total = counts.total()
    if counts.keys() - probabilities.keys():
        return math.inf, 0.0
    expected = {token: p * total for token, p in probabilities.items() if p * total >= 5}
    rest = total - sum(expected.values())
    statistic = sum((counts[token] - n) ** 2 / n for token, n in expected.items())
    freedom = len(expected) - 1
    if rest >= 5:
        others = total - sum(counts[token] for token in expected)
        statistic += (others - rest) ** 2 / rest
        freedom += 1
    # Wilson and Hilferty, The distribution of chi-square (1931).
    spread = 2 / (9 * freedom)
    return statistic, freedom * (1 - spread + 3.719 * math.sqrt(spread)) ** 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_draws_are_distributed_as_by_the_library(model: Model, case: Case) -> None:
    setting = Setting(model, case)
    probabilities = setting.probabilities(case.params)
    assert len(probabilities) > 1
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
    statistic, critical = chi_square(setting.draws(case.params), probabilities)
    assert statistic < critical


@pytest.mark.parametrize(
    ("params", "other"),
    [
        (on(top_p=0.6), on(top_p=0.62)),
        (on(top_k=15), on(top_k=16)),
        (on(min_p=0.05), on(min_p=0.055)),
        (on(temperature=0.6), on(temperature=0.63)),
        (on(top_k=20, **LIGHT), on(top_k=20, **LIGHT | {"presence_penalty": 0.4})),
    ],
)
def test_a_small_difference_would_be_found(model: Model, params: SamplingParams, other: SamplingParams) -> None:
    setting = Setting(model, Case("", params))
    draws = setting.draws(params)
    statistic, critical = chi_square(draws, setting.probabilities(other))
    assert statistic > critical


@pytest.mark.parametrize("mirostat", [1, 2])
def test_mirostat_draws_the_same_tokens(model: Model, mirostat: int) -> None:
    # Each draw depends on those before it, so that frequencies prove little: the tokens themselves are compared.
    same_tokens(model, Case("mirostat", on(mirostat=mirostat, mirostat_tau=3.0), SMALL), 2000)


@pytest.mark.parametrize("share", [None, 0.7])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(seed=3),
        SamplingParams(seed=3, **PENALTIES),
        SamplingParams(seed=3, samplers=("top_k", "penalties", "temperature"), **PENALTIES),
        SamplingParams(seed=3, logit_bias=((7, 9.0), (8, 9.0), (9, 9.0)), temperature=2.0),
        SamplingParams(seed=3, top_k=0, top_p=1, min_p=0.02),
    ],
)
def test_the_same_seed_draws_the_same_tokens(model: Model, params: SamplingParams, share: float | None) -> None:
    same_tokens(model, Case("seed", params, share=share), 300)


@pytest.mark.parametrize("share", [None, 0.7])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_same_seed_draws_the_same_tokens_from_all(model: Model, temperature: float, share: float | None) -> None:
    # Between unlikely neighbours two ways of summing 17,000 numbers decide differently now and then.
    drawn, expected = both(model, Case("seed", on(temperature=temperature), share=share), 300)
    assert sum(ours == native for ours, native in zip(drawn, expected, strict=True)) > 285
    assert len(set(drawn)) > 5


def same_tokens(model: Model, case: Case, n: int) -> None:
    drawn, expected = both(model, case, n)
    assert drawn == expected
    assert len(set(drawn)) > 5


def both(model: Model, case: Case, n: int) -> tuple[list[int], list[int]]:
    """``n`` tokens by our sampler, and by the library's chain."""
    setting = Setting(model, case)
    mask = None if setting.allowed is None else mask_of(setting.allowed, setting.rows.n_vocab)
    ours, native = setting.rows.sampler(case.params, setting.history), setting.rows.native(case.params, setting.history)
    drawn: list[int] = []
    expected: list[int] = []
    for _ in range(n):
        drawn.append(ours.sample(0, mask)[0])
        expected.append(native.choose(setting.rows.row, setting.allowed)[0])
        native.accept(expected[-1:])
    ours.close()
    native.close()
    return drawn, expected
