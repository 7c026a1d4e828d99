"""Calls and their results belong together: ids and names that clients leave out, and ids that templates demand."""

from collections.abc import Sequence

import attrs

from llamabox.chat.normalise import Message


@attrs.define
class _Open:
    """A call that no result has answered yet."""

    id: str
    name: str


def linked(messages: Sequence[Message]) -> list[Message]:
    """Checked messages in which each call has an id, and each result the id and the name of its call.

    A result without id answers the oldest open call of its name, or else the oldest open call. A result that belongs
    to no call stays as it is. Messages of the old role "function" become results.
    """
    names: dict[str, str] = {}
    unanswered: list[_Open] = []
    result: list[Message] = []
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            message = {**message, "tool_calls": _with_ids(index, message["tool_calls"])}
            begun = [_Open(call["id"], call["function"]["name"]) for call in message["tool_calls"]]
            names.update((call.id, call.name) for call in begun)
            unanswered += begun
        elif message["role"] in ("tool", "function"):
            message = _answered({**message, "role": "tool"}, names, unanswered)
        result.append(message)
    return result


def _with_ids(index: int, calls: Sequence[Message]) -> list[Message]:
    return [call if "id" in call else {"id": f"call_{index}_{n}", **call} for n, call in enumerate(calls)]


def _answered(message: Message, names: dict[str, str], unanswered: list[_Open]) -> Message:
    """The result with the id and the name of its call, which is open no longer."""
    if "tool_call_id" not in message:
        same = [call for call in unanswered if call.name == message.get("name")]
        candidates = same or ([] if "name" in message else unanswered)
        if not candidates:
            return message
        message["tool_call_id"] = candidates[0].id
    call_id = message["tool_call_id"]
    unanswered[:] = [call for call in unanswered if call.id != call_id]
    if "name" not in message and call_id in names:
        message["name"] = names[call_id]
    return message


def with_id_length(messages: Sequence[Message], length: int) -> list[Message]:
    """The messages with ids of ``length`` letters and digits, each of the others counted through.

    The same id becomes the same everywhere, and as a conversation grows its beginning stays as it was.
    """
    ids = {call_id: None for message in messages for call_id in _ids_of(message)}
    kept = {call_id for call_id in ids if len(call_id) == length and call_id.isascii() and call_id.isalnum()}
    new: dict[str, str] = {}
    number = 0
    for call_id in ids:
        if call_id in kept:
            new[call_id] = call_id
            continue
        number += 1
        while f"{number:0{length}d}" in kept:
            number += 1
        new[call_id] = f"{number:0{length}d}"
    return [_renamed(message, new) for message in messages]


def _ids_of(message: Message) -> list[str]:
    own = [message["tool_call_id"]] if "tool_call_id" in message else []
    return [*(call["id"] for call in message.get("tool_calls", ()) if "id" in call), *own]


def _renamed(message: Message, new: dict[str, str]) -> Message:
    result = dict(message)
    if "tool_calls" in result:
        result["tool_calls"] = [
            {**call, "id": new[call["id"]]} if "id" in call else call for call in result["tool_calls"]
        ]
    if "tool_call_id" in result:
        result["tool_call_id"] = new[result["tool_call_id"]]
    return result
