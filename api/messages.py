"""Checks on what decides a chat prompt, before a template sees it."""

from typing import Any, Final

from api.errors import bad_request

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
_MEDIA: Final = frozenset({"image_url", "input_audio", "input_video"})


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Raises ApiError 400 for a role, content or part that no template could take."""
    if not messages:
        raise bad_request("messages: there is none", "messages")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")


def _check_message(message: dict[str, Any], where: str) -> None:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad_request(f"{where}.role: expected one of {', '.join(sorted(_ROLES))}", f"{where}.role")
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{where}.content[{index}]")
    elif content is not None and not isinstance(content, str):
        raise bad_request(f"{where}.content: expected text, null or a list of parts", f"{where}.content")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise bad_request(f"{where}.tool_calls: expected a list of objects", f"{where}.tool_calls")


def _check_part(part: object, where: str) -> None:
    if not isinstance(part, dict):
        raise bad_request(f"{where}: expected an object", where)
    kind = part.get("type")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise bad_request(f"{where}.text: expected text", f"{where}.text")
    elif isinstance(kind, str) and kind in _MEDIA:
        raise bad_request(f"{where}: the model has no such modality ({kind})", where)
    else:
        raise bad_request(f"{where}.type: unknown part", f"{where}.type")
