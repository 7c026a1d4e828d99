"""Replies of POST /v1/chat/completions."""

from collections.abc import Sequence
from typing import Any

from api.generation import Choice
from api.job import Job
from api.logprobs import chat_logprobs
from api.openai_stream import finish_reason, reply
from engine.text.requests import TokenInfo


class ChatShape:
    """A choice of a chat chunk."""

    kind = "chat.completion.chunk"

    def __init__(self, job: Job) -> None:
        self._logprobs = wants_logprobs(job)

    def opening(self, choice: int) -> dict[str, Any]:
        return _chunk(choice, {"role": "assistant", "content": ""}, None)

    def delta(self, choice: int, text: str, infos: Sequence[TokenInfo]) -> dict[str, Any]:
        logprobs = chat_logprobs(infos) if self._logprobs and infos else None
        return _chunk(choice, {"content": text} if text else {}, logprobs)


def wants_logprobs(job: Job) -> bool:
    """Whether the reply tells probabilities."""
    sampling = job.requests[0].sampling
    return sampling.logprobs or sampling.n_probs > 0


def whole_chat(job: Job, choices: Sequence[Choice]) -> dict[str, Any]:
    """The chat.completion object."""
    bodies = [_choice(job, index, choice) for index, choice in enumerate(choices)]
    return reply(job, "chat.completion", bodies, [choice.finished.timings for choice in choices])


def _choice(job: Job, index: int, choice: Choice) -> dict[str, Any]:
    body: dict[str, Any] = {
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "logprobs": chat_logprobs(choice.infos) if wants_logprobs(job) else None,
        "finish_reason": finish_reason(choice.finished),
    }
    return {**body, "tokens": choice.tokens} if job.fields.return_tokens else body


def _chunk(choice: int, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": None}
