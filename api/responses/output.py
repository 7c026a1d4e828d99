"""Output items: how each grows, and what the stream says about it."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from api.responses.sealed import seal

type Status = Literal["in_progress", "completed", "incomplete"]
type Event = tuple[str, dict[str, Any]]  # (type, its own fields)


@attrs.define
class ReasoningItem:
    """What the model thinks before it answers."""

    id: str
    sealed: bool  # the item has encrypted_content
    _pieces: list[str] = attrs.field(factory=list)

    def add(self, text: str) -> Event:
        """More of it."""
        self._pieces.append(text)
        return "response.reasoning_text.delta", {**self._place(), "delta": text}

    def opening(self) -> Sequence[Event]:
        """What announces its content."""
        return [("response.content_part.added", {**self._place(), "part": _reasoning_text("")})]

    def closing(self) -> Sequence[Event]:
        """What concludes its content."""
        text = "".join(self._pieces)
        return [
            ("response.reasoning_text.done", {**self._place(), "text": text}),
            ("response.content_part.done", {**self._place(), "part": _reasoning_text(text)}),
        ]

    def json(self, status: Status) -> dict[str, Any]:
        """The item as it is now; one in progress shows no content yet."""
        body: dict[str, Any] = {"id": self.id, "type": "reasoning", "status": status, "summary": [], "content": []}
        if status != "in_progress":
            text = "".join(self._pieces)
            body["content"] = [_reasoning_text(text)]
            if self.sealed:
                body["encrypted_content"] = seal(text)
        return body

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "content_index": 0}


@attrs.define
class MessageItem:
    """Text of the answer. ``logprobs`` are the entries of chat logprobs."""

    id: str
    _pieces: list[str] = attrs.field(factory=list)
    _logprobs: list[dict[str, Any]] = attrs.field(factory=list)

    def add(self, text: str, logprobs: Sequence[dict[str, Any]]) -> Event:
        """More of it."""
        self._pieces.append(text)
        self._logprobs += logprobs
        return "response.output_text.delta", {**self._place(), "delta": text, "logprobs": logprobs}

    def opening(self) -> Sequence[Event]:
        """What announces its content."""
        return [("response.content_part.added", {**self._place(), "part": _output_text("", [])})]

    def closing(self) -> Sequence[Event]:
        """What concludes its content."""
        text = "".join(self._pieces)
        return [
            ("response.output_text.done", {**self._place(), "text": text, "logprobs": self._logprobs}),
            ("response.content_part.done", {**self._place(), "part": _output_text(text, self._logprobs)}),
        ]

    def json(self, status: Status) -> dict[str, Any]:
        """The item as it is now; one in progress shows no content yet."""
        content = [] if status == "in_progress" else [_output_text("".join(self._pieces), self._logprobs)]
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "content_index": 0}


@attrs.frozen(kw_only=True)
class CallForm:
    """How calls of a kind of tools are told."""

    prefix: str  # of ids
    type: str
    field: str  # of the text that the tool gets
    events: str  # what the types of the text's events begin with


FUNCTION: Final = CallForm(
    prefix="fc", type="function_call", field="arguments", events="response.function_call_arguments"
)
CUSTOM: Final = CallForm(prefix="ctc", type="custom_tool_call", field="input", events="response.custom_tool_call_input")


@attrs.define
class CallItem:
    """A tool call. ``call_id`` is what its result refers to."""

    id: str
    call_id: str
    name: str
    namespace: str | None = None
    form: CallForm = FUNCTION
    _pieces: list[str] = attrs.field(factory=list)

    def add(self, text: str) -> Event:
        """More of the tool's text: JSON of the arguments of a function."""
        self._pieces.append(text)
        return f"{self.form.events}.delta", {"item_id": self.id, "delta": text}

    def opening(self) -> Sequence[Event]:
        """Nothing: a call has no parts."""
        return []

    def closing(self) -> Sequence[Event]:
        """What concludes the text."""
        name = {"name": self.name} if self.form is FUNCTION else {}
        return [(f"{self.form.events}.done", {"item_id": self.id, **name, self.form.field: "".join(self._pieces)})]

    def json(self, status: Status) -> dict[str, Any]:
        """The item as it is now."""
        return {
            "id": self.id,
            "type": self.form.type,
            "status": status,
            "call_id": self.call_id,
            **({} if self.namespace is None else {"namespace": self.namespace}),
            "name": self.name,
            self.form.field: "".join(self._pieces),
        }


type Item = ReasoningItem | MessageItem | CallItem


def _reasoning_text(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}


def _output_text(text: str, logprobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
