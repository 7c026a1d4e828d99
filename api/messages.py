"""Checks on what decides a chat prompt, before a template sees it."""

from typing import Any, Final

from api.errors import bad_request
from api.modalities import TEXT_ONLY, Modalities

_MEDIA: Final = frozenset({"image_url", "input_audio", "input_video", "video_url"})
_TEXTS: Final = {"text": "text", "refusal": "refusal"}  # type: the key of its text
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})


def check_messages(messages: list[dict[str, Any]], modalities: Modalities = TEXT_ONLY) -> None:
    """Raises ApiError 400 for a role, content or part that no template could take."""
    if not messages:
        raise bad_request("messages: there is none", "messages")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]", modalities)


def _check_message(message: dict[str, Any], where: str, modalities: Modalities) -> None:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad_request(f"{where}.role: expected one of {', '.join(sorted(_ROLES))}", f"{where}.role")
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            place = f"{where}.content[{index}]"
            if _check_part(part, place, modalities) and role == "assistant":
                raise bad_request(f"{place}: what the assistant said is text", place)
    elif content is not None and not isinstance(content, str):
        raise bad_request(f"{where}.content: expected text, null or a list of parts", f"{where}.content")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise bad_request(f"{where}.tool_calls: expected a list of objects", f"{where}.tool_calls")


def _check_part(part: object, where: str, modalities: Modalities) -> bool:
    """Whether the part is an image or a sound."""
    if not isinstance(part, dict):
        raise bad_request(f"{where}: expected an object", where)
    kind = part.get("type")
    if not isinstance(kind, str):
        raise bad_request(f"{where}.type: unknown part", f"{where}.type")
    if name := _TEXTS.get(kind):
        if not isinstance(part.get(name), str):
            raise bad_request(f"{where}.{name}: expected text", f"{where}.{name}")
        return False
    if kind in _MEDIA and modalities.takes(kind, where):
        return True
    raise bad_request(f"{where}.type: unknown part", f"{where}.type")
