"""A turn as the events of the Messages API."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from api.anthropic.errors import error_event
from api.anthropic.reply import Reply, text_block, thinking_block, tool_use_block, usage
from api.errors import ApiError
from api.turn.model import Part, TurnEnd
from engine.text.events import PrefillProgress, Timings
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta, Reasoning

_CLOSED: Final = ""


class MessagesStream:
    """The events of one message. Only choice 0 exists."""

    ping: Final = b'event: ping\ndata: {"type":"ping"}\n\n'  # what this API sends in a silence

    def __init__(self, reply: Reply, request_id: str) -> None:
        self._reply = reply
        self._request_id = request_id
        self._begun = False
        self._index = -1  # of the latest block
        self._open = _CLOSED  # type of the open block

    def progress(self, choice: int, progress: PrefillProgress) -> bytes:
        """The API has no such report."""
        return b""

    def part(self, choice: int, part: Part) -> bytes:
        """The events of what came."""
        return self._begin(part.timings) + b"".join(self._delta(delta) for delta in part.deltas)

    def finish(self, choice: int, end: TurnEnd) -> bytes:
        """The last block ends, and the message."""
        body = {"delta": self._reply.ending(end), "usage": usage(end.timings, end.reasoning_tokens)}
        events = [self._begin(end.timings), self._leave(), _event("message_delta", body), _event("message_stop", {})]
        return b"".join(events)

    def end(self, ends: Sequence[TurnEnd]) -> bytes:
        """Nothing: the message's own end is the end mark."""
        return b""

    def failed(self, error: ApiError) -> bytes:
        """The turn cannot go on: nothing follows."""
        return error_event(error, self._request_id)

    def _begin(self, timings: Timings) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _event("message_start", {"message": self._reply.body([], usage(timings))})

    def _delta(self, delta: Delta) -> bytes:
        match delta:
            case Content(text=text):
                return self._continue(text_block("")) + self._grow("text_delta", text=text)
            case Reasoning(text=text):
                block = self._continue(thinking_block(""))
                return block if self._reply.hides_thinking else block + self._grow("thinking_delta", thinking=text)
            case CallStarted(id=call_id, name=name):
                return self._leave() + self._enter(tool_use_block(call_id, name, {}))
            case CallArguments(text=text):
                return self._grow("input_json_delta", partial_json=text)

    def _continue(self, block: dict[str, Any]) -> bytes:
        """Go on with the open block if it is of the type of ``block``, else begin that one."""
        return b"" if self._open == block["type"] else self._leave() + self._enter(block)

    def _enter(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = block["type"]
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _grow(self, kind: str, **more: str) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": {"type": kind, **more}})

    def _leave(self) -> bytes:
        if self._open == _CLOSED:
            return b""
        signature = self._grow("signature_delta", signature="") if self._open == "thinking" else b""
        self._open = _CLOSED
        return signature + _event("content_block_stop", {"index": self._index})


def _event(kind: str, body: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **body}) + b"\n\n"
