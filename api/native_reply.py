"""Replies of POST /completion."""

from collections.abc import Sequence
from typing import Any

from api.figures import progress_json, timings_json
from api.generation import Choice
from api.job import Job
from api.logprobs import native_probs
from api.openai_stream import wants_logprobs
from api.response_fields import select
from api.settings_json import generation_settings
from api.sse import PlainEnds, RenderedPart, data_event
from engine.text.events import Finished, PrefillProgress, Timings, Tokens


class NativeStream(PlainEnds):
    """Events of the native API: parts, then one final object for each choice. ``texts``: each choice's prompt."""

    def __init__(self, job: Job, texts: Sequence[str]) -> None:
        self._job = job
        self._texts = texts
        self._probs = wants_logprobs(job)
        self._new_line = [False] * len(job.requests)

    def feed(self, choice: int, part: RenderedPart) -> bytes:
        """The event of ``part``; two where the final one brings text."""
        if isinstance(part, PrefillProgress):
            return data_event(self._progress(choice, part))
        self._new_line[choice] |= "\n" in part.text
        if isinstance(part, Tokens):
            return data_event(self._part(choice, part))
        events = b""
        if part.text or part.infos:
            events = data_event(self._part(choice, part))
        ended = Choice(part)
        return events + data_event(final(self._job, choice, ended, self._texts[choice], self._new_line[choice]))

    def end(self, timings: Sequence[Timings]) -> bytes:
        """Nothing: the final object has said it."""
        return b""

    def _part(self, choice: int, part: Tokens | Finished) -> dict[str, Any]:
        body = _body(choice, part.text, part.tokens, part.slot, part.timings)
        if self._job.fields.timings_per_token:
            body["timings"] = timings_json(part.timings)
        if self._probs and part.infos:
            body["completion_probabilities"] = _probs(self._job, part.infos)
        return body

    def _progress(self, choice: int, part: PrefillProgress) -> dict[str, Any]:
        slot = self._job.requests[choice].slot
        evaluated = Timings(cache_n=part.total)
        body = _body(choice, "", (), -1 if slot is None else slot, evaluated)
        return {**body, "prompt_progress": progress_json(part)}


def whole_native(job: Job, choices: Sequence[Choice], texts: Sequence[str]) -> Any:
    """One object, or a list where the request had several choices."""
    results = [final(job, i, choice, texts[i], "\n" in choice.text) for i, choice in enumerate(choices)]
    return results[0] if len(results) == 1 else results


def final(job: Job, index: int, choice: Choice, prompt: str, has_new_line: bool) -> dict[str, Any]:
    """The object that ends a choice; text and tokens are in it only when nothing was streamed."""
    end, fields, request = choice.finished, job.fields, job.requests[index]
    settings = generation_settings(request, stream=fields.streaming, timings_per_token=bool(fields.timings_per_token))
    body: dict[str, Any] = {
        "index": index,
        "content": choice.text,
        "tokens": choice.tokens if fields.return_tokens else [],
        "id_slot": end.slot,
        "stop": True,
        "model": job.model,
        "tokens_predicted": end.timings.predicted_n,
        "tokens_evaluated": end.timings.cache_n + end.timings.prompt_n,
        "tokens_cached": end.timings.cache_n,
        "generation_settings": settings,
        "prompt": prompt,
        "has_new_line": has_new_line,
        "truncated": end.truncated,
        "stop_type": end.reason.value,
        "stopping_word": end.stopping_word,
        "timings": timings_json(end.timings),
    }
    if choice.infos:
        body["completion_probabilities"] = _probs(job, choice.infos)
    return select(body, fields.response_fields)


def _probs(job: Job, infos: Sequence[Any]) -> list[dict[str, Any]]:
    return native_probs(infos, post_sampling=job.requests[0].sampling.post_sampling_probs)


def _body(choice: int, text: str, tokens: Sequence[int], slot: int, timings: Timings) -> dict[str, Any]:
    return {
        "index": choice,
        "content": text,
        "tokens": tokens,
        "stop": False,
        "id_slot": slot,
        "tokens_predicted": timings.predicted_n,
        "tokens_evaluated": timings.cache_n + timings.prompt_n,
    }
