"""Whether messages have the shape of OpenAI's chat API; errors name the place."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from llamabox.chat.budget import MAX_NESTED, is_deeper
from llamabox.chat.errors import TemplateError
from llamabox.chat.normalise import Message
from llamabox.media.parts import MEDIA_PARTS

ROLES: Final = ("assistant", "developer", "function", "system", "tool", "user")
# Under which names clients send back what the model thought; the first is ours.
REASONING_KEYS: Final = ("reasoning_content", "thinking", "reasoning")
_TEXT_PARTS: Final = {"text": "text", "refusal": "refusal"}  # part type: key of its text


def checked(index: int, message: Any, mark_media: Callable[[], str] | None = None) -> Message:
    """A copy with absent content made "", parts joined, reasoning under one name, arguments of calls as objects.

    Raises TemplateError naming the place.
    """
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
        raise TemplateError(f"{where} must be an object")
    if message.get("role") not in ROLES:
        raise TemplateError(f"{where}.role must be one of {', '.join(ROLES)}")
    # What an assistant says is text, also where the model takes other media.
    mark = None if message["role"] == "assistant" else mark_media
    result = {**message, "content": _content(where, message.get("content"), mark)}
    for key in ("name", "tool_call_id"):
        if result.get(key) is None:
            result.pop(key, None)
        elif not isinstance(result[key], str):
            raise TemplateError(f"{where}.{key} must be a string")
    reasoning = [_reasoning(where, key, result.pop(key)) for key in REASONING_KEYS if key in result]
    if text := next(filter(None, reasoning), ""):
        result[REASONING_KEYS[0]] = text
    calls = _calls(where, result.pop("tool_calls", None), result.pop("function_call", None))
    if calls:
        result["tool_calls"] = calls
    if is_deeper(result, MAX_NESTED):
        raise TemplateError(f"{where} is nested more than {MAX_NESTED} levels deep")
    return result


def _content(where: str, content: Any, mark_media: Callable[[], str] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TemplateError(f"{where}.content must be a string, null or a list of parts")
    text, after_text = "", False
    for n, part in enumerate(content):
        if mark_media is not None and isinstance(part, Mapping) and part.get("type") in MEDIA_PARTS:
            text += mark_media()
            after_text = False
        else:
            text += ("\n" if after_text else "") + _part(f"{where}.content[{n}]", part)
            after_text = True
    return text


def _part(where: str, part: Any) -> str:
    if not isinstance(part, Mapping):
        raise TemplateError(f"{where} must be an object")
    kind = part.get("type")
    key = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise TemplateError(f"{where}: this prompt takes parts of type text only, not {kind!r}")
    text = part.get(key)
    if not isinstance(text, str):
        raise TemplateError(f"{where}.{key} must be a string")
    return text


def _reasoning(where: str, key: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TemplateError(f"{where}.{key} must be a string")
    return value or ""


def _calls(where: str, calls: Any, function: Any) -> list[Message]:
    """The calls of a message, those of the old form (``function_call``) too."""
    if calls is not None and not isinstance(calls, list):
        raise TemplateError(f"{where}.tool_calls must be a list")
    if calls:
        return [_call(f"{where}.tool_calls[{n}]", call) for n, call in enumerate(calls)]
    if function is None:
        return []
    return [{"type": "function", "function": _function(f"{where}.function_call", function)}]


def _call(where: str, call: Any) -> Message:
    if not isinstance(call, Mapping):
        raise TemplateError(f"{where} must be an object")
    result = {**call, "type": "function", "function": _function(f"{where}.function", call.get("function"))}
    if result.get("id") is None:
        result.pop("id", None)
    elif not isinstance(result["id"], str):
        raise TemplateError(f"{where}.id must be a string")
    return result


def _function(where: str, function: Any) -> Message:
    if not isinstance(function, Mapping):
        raise TemplateError(f"{where} must be an object")
    if not isinstance(function.get("name"), str):
        raise TemplateError(f"{where}.name must be a string")
    return {**function, "arguments": _arguments(f"{where}.arguments", function.get("arguments"))}


def _arguments(where: str, arguments: Any) -> Message:
    """The arguments as an object. Here and not later: text that JSON escapes must be visible to the injection guard."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, parse_constant=_no_constant) if arguments.strip() else None
        except ValueError as error:
            raise TemplateError(f"{where} is not JSON: {error}") from None
        except RecursionError:
            raise TemplateError(f"{where} is nested too deeply") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise TemplateError(f"{where} must be a JSON object")
    return dict(arguments)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
