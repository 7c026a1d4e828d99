"""Messages as clients send them, made to suit a template. Pure: plain dicts in, plain dicts out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llamabox.chat.capabilities import Capabilities
from llamabox.chat.errors import TemplateError

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})

type Message = dict[str, Any]


def validate(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Shallow copies of the messages with absent content made "". Raises TemplateError naming the message."""
    if not messages:
        raise TemplateError("messages must not be empty")
    return [_validated(index, message) for index, message in enumerate(messages)]


def _validated(index: int, message: Mapping[str, Any]) -> Message:
    if not isinstance(message, Mapping):
        raise TemplateError(f"messages[{index}] must be an object")
    role = message.get("role")
    if role not in ROLES:
        raise TemplateError(f"messages[{index}].role must be one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if content is None:
        content = ""
    elif not isinstance(content, str):
        content = _text_parts(index, content)
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise TemplateError(f"messages[{index}].tool_calls must be a list")
    validated = {**message, "content": content}
    if calls:
        validated["tool_calls"] = [_call(f"messages[{index}].tool_calls[{n}]", call) for n, call in enumerate(calls)]
    else:
        validated.pop("tool_calls", None)
    return validated


def _text_parts(index: int, content: Any) -> str:
    if not isinstance(content, list):
        raise TemplateError(f"messages[{index}].content must be a string, null or a list of parts")
    texts = []
    for n, part in enumerate(content):
        where = f"messages[{index}].content[{n}]"
        if not isinstance(part, Mapping):
            raise TemplateError(f"{where} must be an object")
        if part.get("type") != "text":
            raise TemplateError(f"{where}: this prompt takes parts of type text only, not {part.get('type')!r}")
        if not isinstance(part.get("text"), str):
            raise TemplateError(f"{where}.text must be a string")
        texts.append(part["text"])
    return "\n".join(texts)


def _call(where: str, call: Any) -> Message:
    """A tool call whose arguments are an object, the form that most templates take."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        raise TemplateError(f"{where}.function must be an object")
    function = call["function"]
    if not isinstance(function.get("name"), str):
        raise TemplateError(f"{where}.function.name must be a string")
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments:
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise TemplateError(f"{where}.function.arguments is not JSON: {error}") from None
    return {**call, "function": {**function, "arguments": arguments or {}}}


def suit(messages: Sequence[Message], capabilities: Capabilities) -> list[Message]:
    """Validated messages in the shape that the template can render."""
    suited = [dict(message) for message in messages]
    if not capabilities.developer_role:
        for message in suited:
            if message["role"] == "developer":
                message["role"] = "system"
    if not capabilities.system_role:
        suited = _without_system(suited)
    if capabilities.alternation:
        suited = _alternating(suited)
    if not capabilities.string_content and capabilities.list_content:
        for message in suited:
            message["content"] = [{"type": "text", "text": message["content"]}] if message["content"] else []
    return suited


def _without_system(messages: list[Message]) -> list[Message]:
    """System text in front of the first user message that follows, or as a user message of its own."""
    result: list[Message] = []
    pending: list[str] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            pending.append(message["content"])
        elif message["role"] == "user" and pending:
            result.append({**message, "content": "\n\n".join([*pending, message["content"]])})
            pending = []
        else:
            result.append(message)
    if pending:
        result.append({"role": "user", "content": "\n\n".join(pending)})
    return result


def _alternating(messages: list[Message]) -> list[Message]:
    """Neighbours of one role become one message; tool calls and results keep their own."""
    result: list[Message] = []
    for message in messages:
        last = result[-1] if result else None
        mergeable = message["role"] in ("user", "system") or (
            message["role"] == "assistant" and not message.get("tool_calls")
        )
        if last and mergeable and last["role"] == message["role"] and not last.get("tool_calls"):
            last["content"] = "\n\n".join(text for text in (last["content"], message["content"]) if text)
        else:
            result.append(dict(message))
    return result
