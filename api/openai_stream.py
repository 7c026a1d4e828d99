"""What the replies of the two OpenAI routes have in common."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import attrs

from api.errors import bad_request
from api.fields import GenerationFields
from api.figures import merge, progress_json, timings_json, usage
from api.job import Job
from api.sse import DONE, Head
from api.turn.model import Part
from engine.text.events import Finished, FinishReason, PrefillProgress, Timings, Tokens
from engine.text.requests import TokenInfo

FINGERPRINT: Final = f"llama-box-{version('llama-box')}"


def check_stream_options(fields: GenerationFields) -> None:
    """Raises ApiError 400 where they are given for a reply that comes as a whole: OpenAI and vLLM refuse them too."""
    if fields.stream_options is not None and not fields.streaming:
        raise bad_request("stream_options: only with stream: true", "stream_options")


def finish_reason(finished: Finished) -> str:
    return "length" if finished.reason is FinishReason.LIMIT else "stop"


def wants_logprobs(job: Job) -> bool:
    """Whether the reply tells probabilities."""
    sampling = job.requests[0].sampling
    return sampling.logprobs or sampling.n_probs > 0


def reply(
    job: Job, kind: str, choices: list[dict[str, Any]], timings: Sequence[Timings], reasoning_tokens: int = 0
) -> dict[str, Any]:
    """A whole reply of object type ``kind``."""
    return {
        "id": job.id,
        "object": kind,
        "created": job.created,
        "model": job.model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
        "usage": usage(timings, job.n, reasoning_tokens),
        "timings": timings_json(merge(timings, job.n)),
    }


@attrs.define
class Held:
    """Tokens whose text is not out yet: their figures go with the next text."""

    tokens: list[int] = attrs.field(factory=list)
    infos: list[TokenInfo] = attrs.field(factory=list)

    def keep(self, part: Tokens | Finished | Part) -> None:
        self.tokens += part.tokens
        self.infos += part.infos

    def take(self) -> tuple[list[int], list[TokenInfo]]:
        """All that is held."""
        tokens, infos = self.tokens, self.infos
        self.tokens, self.infos = [], []
        return tokens, infos


class Chunks:
    """Writes the chunks of one generation, of object type ``kind``."""

    def __init__(self, job: Job, kind: str) -> None:
        common = {"id": job.id, "object": kind, "created": job.created, "model": job.model}
        common["system_fingerprint"] = FINGERPRINT
        self._usage_head = Head(**common)
        # OpenAI: with include_usage every chunk has the field, and all but the last say null.
        self._head = Head(**common, usage=None) if job.fields.include_usage else self._usage_head
        self._job = job

    def plain(self, choice: dict[str, Any]) -> bytes:
        """A chunk with no figures."""
        return self._head.event({"choices": [choice]})

    def around(self, choice: dict[str, Any]) -> tuple[bytes, bytes]:
        """What is constant in the chunks with ``choice``: before and behind its text, which is empty in ``choice``."""
        before, _, behind = self.plain(choice).rpartition(b'""')
        return before, behind

    def progress(self, choice: dict[str, Any], progress: PrefillProgress) -> bytes:
        """A chunk that tells how far the prompt is."""
        return self._head.event({"choices": [choice], "prompt_progress": progress_json(progress)})

    def text(self, choice: dict[str, Any], timings: Timings) -> bytes:
        """A chunk that brings something; its figures only if they are asked for."""
        return self.last(choice, timings) if self._job.fields.timings_per_token else self.plain(choice)

    def last(self, choice: dict[str, Any], timings: Timings) -> bytes:
        """The chunk that ends a choice."""
        return self._head.event({"choices": [choice], "timings": timings_json(timings)})

    def end(self, timings: Sequence[Timings], reasoning_tokens: int = 0) -> bytes:
        """The usage chunk, if asked for, and the end mark."""
        if not self._job.fields.include_usage:
            return DONE
        figures = {
            "usage": usage(timings, self._job.n, reasoning_tokens),
            "timings": timings_json(merge(timings, self._job.n)),
        }
        return self._usage_head.event({"choices": [], **figures}) + DONE
