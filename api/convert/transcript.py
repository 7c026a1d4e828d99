"""Chat messages in the making."""

from typing import Any

import attrs

type Content = str | list[dict[str, Any]]
"""Text, or parts of the types text, image_url and input_audio."""


@attrs.define
class Transcript:
    """Messages in the form of OpenAI's chat API.

    What the assistant thinks, says and calls between two messages of others becomes one message of its own: no
    template takes a call and the words beside it apart.
    """

    messages: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def is_unfinished(self) -> bool:
        """Whether it ends with words or thoughts of the assistant, on which the model is to go on."""
        return (
            bool(self.messages) and self.messages[-1]["role"] == "assistant" and not self.messages[-1].get("tool_calls")
        )

    def add(self, role: str, content: Content) -> None:
        """A message of somebody else."""
        self.messages.append({"role": role, "content": content})

    def result(self, call_id: str, content: Content) -> None:
        """What a call has returned."""
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def say(self, text: str) -> None:
        """Words of the assistant."""
        message = self._assistant()
        message["content"] = _joined(message["content"], text)

    def reason(self, text: str) -> None:
        """Thoughts of the assistant."""
        message = self._assistant()
        message["reasoning_content"] = _joined(message.get("reasoning_content", ""), text)

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """A call of the assistant; ``arguments`` is JSON text."""
        function = {"name": name, "arguments": arguments}
        self._assistant().setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})

    def _assistant(self) -> dict[str, Any]:
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]


def _joined(before: str, text: str) -> str:
    return f"{before}\n{text}" if before and text else before + text


def content_of(parts: list[str | dict[str, Any]]) -> Content:
    """Texts and media parts as content: text alone where there are no media."""
    if all(isinstance(part, str) for part in parts):
        return "\n".join(part for part in parts if isinstance(part, str))
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
