"""A turn as the events of the Responses API."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from api.errors import ApiError
from api.responses.keep import Keep, as_it_is
from api.responses.output import CallItem, Event, Item, MessageItem, ReasoningItem, Status
from api.responses.reply import Reply, last_status
from api.sse import PING
from api.turn.model import Part, TurnEnd
from engine.text.events import PrefillProgress
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Delta, Reasoning


class ResponsesStream:
    """The events of one response. Only choice 0 exists."""

    ping: Final = PING

    def __init__(self, reply: Reply, keep: Keep = as_it_is) -> None:
        self._reply = reply
        self._keep = keep
        self._number = 0  # of the next event
        self._done: list[dict[str, Any]] = []  # items
        self._open: Item | None = None

    def progress(self, choice: int, progress: PrefillProgress) -> bytes:
        """The API has no such report: only the response's beginning."""
        return self._begin()

    def part(self, choice: int, part: Part) -> bytes:
        """The events of what came."""
        events = [self._begin()]
        logprobs = self._reply.logprobs_of(part.infos)
        for delta in part.deltas:
            events.append(self._delta(delta, logprobs))
            if isinstance(delta, Content):
                logprobs = []  # they are those of the whole part: said once
        return b"".join(events)

    def finish(self, choice: int, end: TurnEnd) -> bytes:
        """The last item ends, and the response."""
        events = [self._begin()]
        if self._open is None and not self._done:
            events.append(self._enter(self._reply.message_item(0)))
        if self._open is not None:
            events.append(self._leave(last_status(self._open, end)))
        body = self._keep(self._reply.ended(self._done, end))
        events.append(self._event(f"response.{body['status']}", {"response": body}))
        return b"".join(events)

    def end(self, ends: Sequence[TurnEnd]) -> bytes:
        """Nothing: the response's own end is the end mark."""
        return b""

    def failed(self, error: ApiError) -> bytes:
        """The turn cannot go on: nothing follows."""
        envelope = error.envelope()
        facts = {"code": envelope["type"], "message": error.message, "param": error.param}
        events = [self._begin(), self._leave("incomplete"), self._event("error", facts)]
        events.append(self._event("response.failed", {"response": self._reply.failed(self._done, error)}))
        return b"".join(events)

    def _begin(self) -> bytes:
        if self._number:
            return b""
        body = {"response": self._reply.body("in_progress", [])}
        return self._event("response.created", body) + self._event("response.in_progress", body)

    def _delta(self, delta: Delta, logprobs: Sequence[dict[str, Any]]) -> bytes:
        match delta:
            case Content(text=text):
                before, message = self._current(MessageItem)
                if message is None:
                    message = self._reply.message_item(len(self._done))
                    before += self._enter(message)
                return before + self._item_event(message.add(text, logprobs))
            case Reasoning(text=text):
                before, reasoning = self._current(ReasoningItem)
                if reasoning is None:
                    reasoning = self._reply.reasoning_item(len(self._done))
                    before += self._enter(reasoning)
                return before + self._item_event(reasoning.add(text))
            case CallStarted(id=call_id, name=name):
                return self._leave() + self._enter(self._reply.call_item(len(self._done), call_id, name))
            case CallArguments(text=text):
                assert isinstance(self._open, CallItem), "arguments follow the start of their call"
                return self._item_event(self._open.add(text))

    def _current[T: (MessageItem, ReasoningItem)](self, kind: type[T]) -> tuple[bytes, T | None]:
        """The open item if it is of this kind; else the events with which it ends."""
        if isinstance(self._open, kind):
            return b"", self._open
        return self._leave(), None

    def _enter(self, item: Item) -> bytes:
        self._open = item
        added = self._item_event(("response.output_item.added", {"item": item.json("in_progress")}))
        return added + b"".join(self._item_event(event) for event in item.opening())

    def _leave(self, status: Status = "completed") -> bytes:
        if self._open is None:
            return b""
        events = b"".join(self._item_event(event) for event in self._open.closing())
        body = self._open.json(status)
        events += self._item_event(("response.output_item.done", {"item": body}))
        self._done.append(body)
        self._open = None
        return events

    def _item_event(self, event: Event) -> bytes:
        kind, body = event
        return self._event(kind, {"output_index": len(self._done), **body})

    def _event(self, kind: str, body: dict[str, Any]) -> bytes:
        data = msgspec.json.encode({"type": kind, "sequence_number": self._number, **body})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
