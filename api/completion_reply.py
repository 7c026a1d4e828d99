"""Replies of POST /v1/completions."""

from collections.abc import Sequence
from typing import Any, Final

import attrs

from api.generation import Choice
from api.job import Job
from api.logprobs import LegacyLogprobs
from api.openai_stream import Chunks, Held, finish_reason, reply, wants_logprobs
from api.shapes import CompletionFields
from api.sse import PlainEnds, RenderedPart
from engine.text.events import Finished, PrefillProgress, Timings, Tokens

_KIND: Final = "text_completion"


class CompletionStream(PlainEnds):
    """The chunks of one generation. ``echoes`` has the text to send before each choice's own, or is empty."""

    def __init__(self, job: Job, echoes: Sequence[str] = ()) -> None:
        self._chunks = Chunks(job, _KIND)
        self._return_tokens = bool(job.fields.return_tokens)
        self._echoes = dict(enumerate(echoes))  # those that are still to be sent
        self._held = [Held() for _ in job.requests]
        self._logprobs = [LegacyLogprobs() for _ in job.requests] if wants_logprobs(job) else None

    def feed(self, choice: int, part: RenderedPart) -> bytes:
        """The events of ``part``."""
        if isinstance(part, PrefillProgress) or choice not in self._echoes:
            return self._events(choice, part)
        echo, logprobs = self._echoes.pop(choice), None
        if self._logprobs is not None and part.prompt_infos:
            logprobs = self._logprobs[choice].echo(echo, part.prompt_infos)
        return self._chunks.plain(_body(choice, echo, logprobs)) + self._events(choice, part)

    def end(self, timings: Sequence[Timings]) -> bytes:
        """The usage chunk, if asked for, and the end mark."""
        return self._chunks.end(timings)

    def _events(self, choice: int, part: RenderedPart) -> bytes:
        match part:
            case PrefillProgress():
                return self._chunks.progress(_body(choice, ""), part)
            case Tokens(text=""):
                self._held[choice].keep(part)
                return b""
            case Tokens():
                return self._chunks.text(self._choice(choice, part), part.timings)
            case Finished(text=""):
                body = {**self._choice(choice, part), "finish_reason": finish_reason(part)}
                return self._chunks.last(body, part.timings)
            case Finished():
                text = self._chunks.text(self._choice(choice, part), part.timings)
                return text + self._events(choice, attrs.evolve(part, text="", tokens=(), infos=()))

    def _choice(self, choice: int, part: Tokens | Finished) -> dict[str, Any]:
        self._held[choice].keep(part)
        tokens, infos = self._held[choice].take()
        logprobs = self._logprobs[choice].feed(infos) if self._logprobs is not None and infos else None
        body = _body(choice, part.text, logprobs)
        return {**body, "tokens": tokens} if self._return_tokens else body


def whole_completion(
    job: Job, choices: Sequence[Choice], echoes: Sequence[str] = (), *, told: Sequence[int]
) -> dict[str, Any]:
    """The text_completion object of the choices at the positions ``told``; its figures are those of all."""
    bodies = []
    with_logprobs = wants_logprobs(job) and (len(told) == len(choices) or _asked_for_logprobs(job))
    for index, position in enumerate(told):
        choice = choices[position]
        logprobs = _whole_logprobs(choice, echoes[position] if echoes else "") if with_logprobs else None
        text = (echoes[position] if echoes else "") + choice.text
        body = {**_body(index, text, logprobs), "finish_reason": finish_reason(choice.finished)}
        bodies.append({**body, "tokens": choice.tokens} if job.fields.return_tokens else body)
    return reply(job, _KIND, bodies, [choice.finished.timings for choice in choices])


def _whole_logprobs(choice: Choice, echo: str) -> dict[str, Any]:
    logprobs = LegacyLogprobs()
    begin = logprobs.echo(echo, choice.prompt_infos) if choice.prompt_infos else {}
    end = logprobs.feed(choice.infos)
    return {name: [*begin.get(name, ()), *values] for name, values in end.items()}


def _asked_for_logprobs(job: Job) -> bool:
    """Whether the client did: they are computed too where the best choices are to be found."""
    fields = job.fields
    return bool(fields.n_probs) or (isinstance(fields, CompletionFields) and fields.logprobs is not None)


def _body(choice: int, text: str, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": choice, "text": text, "logprobs": logprobs, "finish_reason": None}
