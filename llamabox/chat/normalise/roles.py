"""Who speaks: roles that a template does not know, and turns that it wants to alternate."""

from collections.abc import Iterable, Sequence
from typing import Final

from llamabox.chat.normalise import Message

_GAP: Final = "\n\n"
_ABOVE: Final = ("system", "developer")


def joined(texts: Iterable[str], gap: str = _GAP) -> str:
    """The texts that are not empty, with a gap between them."""
    return gap.join(filter(None, texts))


def without_developer(messages: Sequence[Message]) -> list[Message]:
    """The developer speaks as the system."""
    return [{**message, "role": "system"} if message["role"] == "developer" else message for message in messages]


def without_system(messages: Sequence[Message]) -> list[Message]:
    """System text goes in front of the user message that follows, or becomes one of its own at the end."""
    result: list[Message] = []
    pending: list[str] = []
    for message in messages:
        if message["role"] in _ABOVE:
            pending.append(message["content"])
        elif message["role"] == "user" and pending:
            result.append({**message, "content": joined([*pending, message["content"]])})
            pending = []
        else:
            result.append(message)
    if pending:
        result.append({"role": "user", "content": joined(pending)})
    return result


def system_first(messages: Sequence[Message]) -> list[Message]:
    """One system message at most, at the beginning; those that come later go to the user message that follows."""
    leading = 0
    while leading < len(messages) and messages[leading]["role"] in _ABOVE:
        leading += 1
    head = list(messages[:leading])
    if leading > 1:
        head = [{**head[0], "content": joined(message["content"] for message in head)}]
    return head + without_system(messages[leading:])


def alternating(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role become one message; tool calls and results stay by themselves."""
    result: list[Message] = []
    for message in messages:
        last = result[-1] if result else None
        if last is not None and _mergeable(last) and _mergeable(message) and last["role"] == message["role"]:
            result[-1] = _merged(last, message)
        else:
            result.append(message)
    return result


def _mergeable(message: Message) -> bool:
    return message["role"] in ("user", "system", "developer", "assistant") and not message.get("tool_calls")


def _merged(first: Message, second: Message) -> Message:
    result = {**second, **first, "content": joined((first["content"], second["content"]))}
    if reasoning := joined(message.get("reasoning_content", "") for message in (first, second)):
        result["reasoning_content"] = reasoning
    return result
