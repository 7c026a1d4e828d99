"""Replies of POST /v1/chat/completions."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from api.job import Job
from api.logprobs import chat_logprobs
from api.openai_stream import Chunks, Held, reply, wants_logprobs
from api.sse import PlainEnds
from api.turn.model import Ending, Part, ToolCall, Turn, TurnEnd
from engine.text.events import PrefillProgress
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta, Reasoning


class ChatChunks(PlainEnds):
    """Satisfies ``TurnRenderer``: the chunks of one generation. ``legacy``: calls in OpenAI's older form.

    ``custom``: the tools that take text.
    """

    def __init__(self, job: Job, *, legacy: bool = False, custom: Collection[str] = ()) -> None:
        self._chunks = Chunks(job, "chat.completion.chunk")
        self._legacy = legacy
        self._custom = custom
        self._custom_calls: set[tuple[int, int]] = set()  # (choice, index)
        self._logprobs = wants_logprobs(job)
        self._return_tokens = bool(job.fields.return_tokens)
        self._held = [Held() for _ in job.requests]
        self._begun: set[int] = set()
        # Most chunks bring a piece of content and nothing else: all but the text is encoded once.
        self._bare = not (self._logprobs or self._return_tokens or job.fields.timings_per_token)
        self._around = [self._chunks.around(_chunk(i, {"content": ""})) for i in range(len(job.requests))]

    def progress(self, choice: int, progress: PrefillProgress) -> bytes:
        """A chunk that changes nothing but tells how far the prompt is."""
        return self._opening(choice) + self._chunks.progress(_chunk(choice, {}), progress)

    def part(self, choice: int, part: Part) -> bytes:
        """A chunk for each delta; the first one has the figures of all tokens."""
        if self._bare and len(part.deltas) == 1 and choice in self._begun and isinstance(part.deltas[0], Content):
            before, behind = self._around[choice]
            return before + msgspec.json.encode(part.deltas[0].text) + behind
        self._held[choice].keep(part)
        chunks = [
            self._chunks.text(self._choice(choice, self._delta(choice, delta)), part.timings) for delta in part.deltas
        ]
        return b"".join([self._opening(choice), *chunks])

    def finish(self, choice: int, end: TurnEnd) -> bytes:
        """The chunk with the finish reason."""
        body = {**self._choice(choice, {}), "finish_reason": _finish_reason(end.ending, self._legacy)}
        return self._opening(choice) + self._chunks.last(body, end.timings)

    def end(self, ends: Sequence[TurnEnd]) -> bytes:
        """The usage chunk, if asked for, and the end mark."""
        return self._chunks.end([end.timings for end in ends], sum(end.reasoning_tokens for end in ends))

    def _opening(self, choice: int) -> bytes:
        """The role, once."""
        if choice in self._begun:
            return b""
        self._begun.add(choice)
        return self._chunks.plain(_chunk(choice, {"role": "assistant", "content": ""}))

    def _delta(self, choice: int, delta: Delta) -> dict[str, Any]:
        match delta:
            case CallStarted(index, call_id, name) if name in self._custom:
                self._custom_calls.add((choice, index))
                custom = {"name": name, "input": ""}
                return {"tool_calls": [{"index": index, "id": call_id, "type": "custom", "custom": custom}]}
            case CallArguments(index, text) if (choice, index) in self._custom_calls:
                return {"tool_calls": [{"index": index, "custom": {"input": text}}]}
            case _:
                return _legacy_delta(delta) if self._legacy else _delta(delta)

    def _choice(self, choice: int, delta: dict[str, Any]) -> dict[str, Any]:
        tokens, infos = self._held[choice].take()
        body = _chunk(choice, delta, chat_logprobs(infos) if self._logprobs and infos else None)
        return {**body, "tokens": tokens} if self._return_tokens else body


def whole_chat(
    job: Job, turns: Sequence[Turn], *, legacy: bool = False, custom: Collection[str] = ()
) -> dict[str, Any]:
    """The chat.completion object."""
    choices = [_whole_choice(job, index, turn, legacy, custom) for index, turn in enumerate(turns)]
    reasoning_tokens = sum(turn.end.reasoning_tokens for turn in turns)
    return reply(job, "chat.completion", choices, [turn.end.timings for turn in turns], reasoning_tokens)


def _whole_choice(job: Job, index: int, turn: Turn, legacy: bool, custom: Collection[str]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "index": index,
        "message": _message(turn, legacy, custom),
        "logprobs": chat_logprobs(turn.infos) if wants_logprobs(job) else None,
        "finish_reason": _finish_reason(turn.end.ending, legacy),
    }
    return {**body, "tokens": turn.tokens} if job.fields.return_tokens else body


def _message(turn: Turn, legacy: bool, custom: Collection[str]) -> dict[str, Any]:
    content = turn.content if turn.content or not turn.calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    if turn.calls and legacy:
        message["function_call"] = _function(turn.calls[0])
    elif turn.calls:
        message["tool_calls"] = [_call(call, custom) for call in turn.calls]
    return message


def _call(call: ToolCall, custom: Collection[str]) -> dict[str, Any]:
    if call.name in custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": _function(call)}


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _chunk(choice: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _delta(delta: Delta) -> dict[str, Any]:
    """A name is sent once and whole: clients join what they get."""
    match delta:
        case Content(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case CallStarted(index, call_id, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        case CallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _legacy_delta(delta: Delta) -> dict[str, Any]:
    """The older form has one call, and no turn with it has more."""
    match delta:
        case CallStarted(_, _, name):
            return {"function_call": {"name": name, "arguments": ""}}
        case CallArguments(_, text):
            return {"function_call": {"arguments": text}}
        case _:
            return _delta(delta)


def _finish_reason(ending: Ending, legacy: bool) -> str:
    return "function_call" if legacy and ending == "tool_calls" else ending
