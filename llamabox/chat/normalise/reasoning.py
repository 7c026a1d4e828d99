"""What the model thought in earlier turns, where the template looks for it."""

from collections.abc import Sequence

from llamabox.chat.normalise import Message
from llamabox.chat.normalise.roles import joined


def with_reasoning(
    messages: Sequence[Message], key: str | None, *, as_parts: bool, beside_text_and_calls: bool
) -> list[Message]:
    """Messages whose ``reasoning_content`` is under ``key``.

    With None it becomes a part of the content (``as_parts``), or is left out: a template that does not look for it
    would not show it, and some drop the content beside it. Where the template refuses reasoning beside text and calls
    in one message, the text joins the reasoning.
    """
    return [
        _moved(message, key, as_parts, beside_text_and_calls) if message.get("reasoning_content") else message
        for message in messages
    ]


def _moved(message: Message, key: str | None, as_parts: bool, beside_text_and_calls: bool) -> Message:
    rest = dict(message)
    reasoning = rest.pop("reasoning_content")
    content = rest["content"]
    if key is None:
        if as_parts:
            said = [{"type": "text", "text": content}] if content else []
            rest["content"] = [{"type": "thinking", "thinking": reasoning}, *said]
        return rest
    if not beside_text_and_calls and content and rest.get("tool_calls"):
        rest["content"], reasoning = "", joined((reasoning, content))
    return {**rest, key: reasoning}
