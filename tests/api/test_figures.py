"""Figures of a generation: finite whatever the clock said."""

import math
from typing import Any

import hypothesis
from hypothesis import strategies as st

from api.figures import merge, timings_json, usage
from api.logprobs import chat_logprobs, native_probs
from engine.text.events import Timings
from engine.text.info import EngineStats
from engine.text.requests import TokenInfo
from llamabox.metrics import Metrics

MS = st.floats(allow_nan=True, allow_infinity=True)
COUNTS = st.integers(0, 10**6)
TIMINGS = st.builds(
    Timings, cache_n=COUNTS, prompt_n=COUNTS, prompt_ms=MS, queue_ms=MS, predicted_n=COUNTS, predicted_ms=MS
)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for entry in value.values() for number in _numbers(entry)]
    return [value]


@hypothesis.settings(derandomize=True)
@hypothesis.given(st.lists(TIMINGS, min_size=1, max_size=4))
def test_always_finite(timings: list[Timings]) -> None:
    assert all(math.isfinite(number) for number in _numbers(usage(timings, len(timings))))
    assert all(math.isfinite(number) for number in _numbers(timings_json(timings[0])))


def test_choices_of_a_prompt_count_it_once() -> None:
    first = Timings(cache_n=2, prompt_n=8, prompt_ms=4.0, predicted_n=3, predicted_ms=20.0, draft_n=4)
    second = Timings(cache_n=10, prompt_n=0, prompt_ms=1.0, predicted_n=5, predicted_ms=40.0, draft_n_accepted=3)
    total = merge([first, second], 2)
    assert (total.cache_n, total.prompt_n, total.prompt_ms) == (2, 8, 4.0)
    assert (total.predicted_n, total.predicted_ms) == (8, 40.0)
    assert merge([first, second], 1).cache_n == 12
    told = usage([first, second], 2)
    assert told["tokens_per_second"] == 6 / 40.0 * 1e3
    assert told["draft_tokens_acceptance"] == 0.75


def test_drafted_tokens_reach_the_metrics() -> None:
    metrics = Metrics(EngineStats)
    metrics.count_generation(Timings(predicted_n=9, draft_n=8, draft_n_accepted=5))
    metrics.count_generation(Timings(predicted_n=9, draft_n=2))
    lines = metrics.expose().decode().splitlines()
    assert "llamabox:tokens_drafted_total 10.0" in lines
    assert "llamabox:tokens_drafted_accepted_total 5.0" in lines


def test_drafted_tokens_are_in_usage_and_timings() -> None:
    timings = Timings(predicted_n=9, draft_n=8, draft_n_accepted=5)
    details = usage([timings], 1)["completion_tokens_details"]
    assert (details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]) == (5, 3)
    assert (timings_json(timings)["draft_n"], timings_json(timings)["draft_n_accepted"]) == (8, 5)
    assert "draft_n" not in timings_json(Timings(predicted_n=9))


def test_an_impossible_token_has_a_number() -> None:
    for logprob in (float("-inf"), float("nan")):
        info = TokenInfo(token=1, piece=b"\xff", logprob=logprob)
        assert chat_logprobs([info])["content"][0]["logprob"] == -9999.0
        assert native_probs([info], post_sampling=True)[0]["prob"] == 0.0
