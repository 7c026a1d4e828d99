"""What the two OpenAI-style renderers have in common."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

import attrs

from api.figures import merge, progress_json, timings_json, usage
from api.job import Job
from api.sse import DONE, Head, RenderedPart
from engine.text.events import Finished, FinishReason, PrefillProgress, Timings, Tokens
from engine.text.requests import TokenInfo

FINGERPRINT: Final = f"llama-box-{version('llama-box')}"


def finish_reason(finished: Finished) -> str:
    return "length" if finished.reason is FinishReason.LIMIT else "stop"


def reply(job: Job, kind: str, choices: list[dict[str, Any]], timings: Sequence[Timings]) -> dict[str, Any]:
    """A whole reply of object type ``kind``."""
    return {
        "id": job.id,
        "object": kind,
        "created": job.created,
        "model": job.model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
        "usage": usage(timings, job.n),
        "timings": timings_json(merge(timings, job.n)),
    }


@attrs.define
class Held:
    """Tokens whose text is not out yet: their figures go with the next text."""

    tokens: list[int] = attrs.field(factory=list)
    infos: list[TokenInfo] = attrs.field(factory=list)

    def take(self, part: Tokens | Finished) -> tuple[list[int], list[TokenInfo]]:
        """All that is held, and what ``part`` brings."""
        tokens, infos = [*self.tokens, *part.tokens], [*self.infos, *part.infos]
        self.tokens, self.infos = [], []
        return tokens, infos

    def keep(self, part: Tokens) -> None:
        self.tokens += part.tokens
        self.infos += part.infos


class ChoiceShape(Protocol):
    """How one of the APIs writes a choice of a chunk."""

    kind: str  # object type of a chunk

    def opening(self, choice: int) -> dict[str, Any] | None:
        """A choice object before any text, None where the API has none."""

    def delta(self, choice: int, text: str, infos: Sequence[TokenInfo]) -> dict[str, Any]:
        """A choice object, finish_reason null. ``text`` "" only with a progress report or at the end."""


class OpenAiStream:
    """The chunks of one generation."""

    def __init__(self, job: Job, shape: ChoiceShape) -> None:
        common = {"id": job.id, "object": shape.kind, "created": job.created, "model": job.model}
        common["system_fingerprint"] = FINGERPRINT
        self._usage_head = Head(**common)
        # OpenAI: with include_usage every chunk has the field, and all but the last say null.
        self._head = Head(**common, usage=None) if job.fields.include_usage else self._usage_head
        self._job = job
        self._shape = shape
        self._held = [Held() for _ in job.requests]
        self._begun: set[int] = set()

    def feed(self, choice: int, part: RenderedPart) -> bytes:
        """The events of ``part``."""
        return b"".join([*self._opening(choice), *self._events(choice, part)])

    def end(self, timings: Sequence[Timings]) -> bytes:
        """The usage chunk, if asked for, and the end mark."""
        if not self._job.fields.include_usage:
            return DONE
        total = timings_json(merge(timings, self._job.n))
        return self._usage_head.event({"choices": [], "usage": usage(timings, self._job.n), "timings": total}) + DONE

    def _opening(self, choice: int) -> list[bytes]:
        if choice in self._begun:
            return []
        self._begun.add(choice)
        opening = self._shape.opening(choice)
        return [] if opening is None else [self._head.event({"choices": [opening]})]

    def _events(self, choice: int, part: RenderedPart) -> list[bytes]:
        match part:
            case PrefillProgress():
                delta = self._shape.delta(choice, "", ())
                return [self._head.event({"choices": [delta], "prompt_progress": progress_json(part)})]
            case Tokens(text=""):
                self._held[choice].keep(part)
                return []
            case Tokens():
                return [self._text(choice, part)]
            case Finished(text=""):
                return [self._last(choice, part)]
            case Finished():
                rest = attrs.evolve(part, text="", tokens=(), infos=())
                return [self._text(choice, part), self._last(choice, rest)]

    def _text(self, choice: int, part: Tokens | Finished) -> bytes:
        return self._head.event({"choices": [self._choice(choice, part)], **self._timings(part, always=False)})

    def _last(self, choice: int, part: Finished) -> bytes:
        body = {**self._choice(choice, part), "finish_reason": finish_reason(part)}
        return self._head.event({"choices": [body], **self._timings(part, always=True)})

    def _choice(self, choice: int, part: Tokens | Finished) -> dict[str, Any]:
        tokens, infos = self._held[choice].take(part)
        body = self._shape.delta(choice, part.text, infos)
        return {**body, "tokens": tokens} if self._job.fields.return_tokens else body

    def _timings(self, part: Tokens | Finished, *, always: bool) -> dict[str, Any]:
        return {"timings": timings_json(part.timings)} if always or self._job.fields.timings_per_token else {}
