"""Counts and speeds of a generation, as the APIs report them. Always finite numbers."""

import math
from collections.abc import Sequence
from typing import Any

from engine.text.events import PrefillProgress, Timings


def finite(value: float) -> float:
    """``value``, or 0 where it is no number that JSON can carry."""
    return value if math.isfinite(value) else 0.0


def per_second(count: float, milliseconds: float) -> float:
    """0 where no time has passed."""
    return finite(count / milliseconds * 1e3) if milliseconds > 0 else 0.0


def merge(timings: Sequence[Timings], n: int) -> Timings:
    """One figure for all choices, ``n`` of each prompt: tokens add up, times run side by side, a prompt counts once."""
    prompts = [timings[i : i + n] for i in range(0, len(timings), n)]
    cached = sum(min(t.cache_n for t in choices) for choices in prompts)
    total = sum(max(t.cache_n + t.prompt_n for t in choices) for choices in prompts)
    return Timings(
        cache_n=cached,
        prompt_n=max(total - cached, 0),
        prompt_ms=max(t.prompt_ms for t in timings),
        queue_ms=max(t.queue_ms for t in timings),
        predicted_n=sum(t.predicted_n for t in timings),
        predicted_ms=max(t.predicted_ms for t in timings),
        draft_n=sum(t.draft_n for t in timings),
        draft_n_accepted=sum(t.draft_n_accepted for t in timings),
    )


def token_rate(timings: Sequence[Timings]) -> float:
    """Tokens per second that the request got. The clock starts with the first token, so that one does not count."""
    steps = sum(max(t.predicted_n - 1, 0) for t in timings)
    return per_second(steps, max(t.predicted_ms for t in timings))


def usage(timings: Sequence[Timings], n: int, reasoning_tokens: int = 0) -> dict[str, Any]:
    """OpenAI's usage object with our additions."""
    total = merge(timings, n)
    prompt = total.cache_n + total.prompt_n
    rate = token_rate(timings)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": total.predicted_n,
        "total_tokens": prompt + total.predicted_n,
        "prompt_tokens_details": {"cached_tokens": total.cache_n},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "accepted_prediction_tokens": total.draft_n_accepted,
            "rejected_prediction_tokens": total.draft_n - total.draft_n_accepted,
        },
        "time_to_first_token_ms": finite(min(t.queue_ms + t.prompt_ms for t in timings)),
        "time_per_output_token_ms": finite(1e3 / rate) if rate > 0 else 0.0,
        "prompt_tokens_per_second": per_second(total.prompt_n, total.prompt_ms),
        "tokens_per_second": rate,
        "draft_tokens": total.draft_n,
        "draft_tokens_acceptance": total.draft_n_accepted / total.draft_n if total.draft_n > 0 else 0.0,
    }


def timings_json(timings: Timings) -> dict[str, Any]:
    """The native timings object; the draft fields only where something was drafted."""
    result: dict[str, Any] = {
        "cache_n": timings.cache_n,
        "prompt_n": timings.prompt_n,
        "prompt_ms": finite(timings.prompt_ms),
        "prompt_per_token_ms": finite(timings.prompt_ms / timings.prompt_n) if timings.prompt_n else 0.0,
        "prompt_per_second": per_second(timings.prompt_n, timings.prompt_ms),
        "predicted_n": timings.predicted_n,
        "predicted_ms": finite(timings.predicted_ms),
        "predicted_per_token_ms": finite(timings.predicted_ms / timings.predicted_n) if timings.predicted_n else 0.0,
        "predicted_per_second": per_second(timings.predicted_n, timings.predicted_ms),
    }
    if timings.draft_n > 0:
        result |= {"draft_n": timings.draft_n, "draft_n_accepted": timings.draft_n_accepted}
    return result


def progress_json(progress: PrefillProgress) -> dict[str, Any]:
    """The native prompt_progress object."""
    return {
        "total": progress.total,
        "cache": progress.cache,
        "processed": progress.processed,
        "time_ms": finite(progress.time_ms),
    }
