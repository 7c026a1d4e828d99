"""Replies of POST /v1/completions."""

from collections.abc import Sequence
from typing import Any

from api.chat_reply import wants_logprobs
from api.generation import Choice
from api.job import Job
from api.logprobs import LegacyLogprobs
from api.openai_stream import finish_reason, reply
from engine.text.requests import TokenInfo

_KIND = "text_completion"


class CompletionShape:
    """A choice of a completion chunk. ``echoes`` has the text to send before each choice's own, or is empty."""

    kind = _KIND

    def __init__(self, job: Job, echoes: Sequence[str] = ()) -> None:
        self._echoes = echoes
        self._logprobs = [LegacyLogprobs() for _ in job.requests] if wants_logprobs(job) else None

    def opening(self, choice: int) -> dict[str, Any] | None:
        return self._body(choice, self._echoes[choice], None) if self._echoes else None

    def delta(self, choice: int, text: str, infos: Sequence[TokenInfo]) -> dict[str, Any]:
        logprobs = self._logprobs[choice].feed(infos) if self._logprobs is not None and infos else None
        return self._body(choice, text, logprobs)

    def _body(self, choice: int, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        return {"index": choice, "text": text, "logprobs": logprobs, "finish_reason": None}


def whole_completion(job: Job, choices: Sequence[Choice], echoes: Sequence[str] = ()) -> dict[str, Any]:
    """The text_completion object."""
    bodies = []
    for index, choice in enumerate(choices):
        body: dict[str, Any] = {
            "index": index,
            "text": (echoes[index] if echoes else "") + choice.text,
            "logprobs": LegacyLogprobs().feed(choice.infos) if wants_logprobs(job) else None,
            "finish_reason": finish_reason(choice.finished),
        }
        bodies.append({**body, "tokens": choice.tokens} if job.fields.return_tokens else body)
    return reply(job, _KIND, bodies, [choice.finished.timings for choice in choices])
