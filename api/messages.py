"""Checks on what decides a chat prompt, before a template sees it."""

from typing import Any, Final

from api.errors import ApiError, bad_request, not_supported
from api.shapes import ChatFields, Templated

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


def refuse_tools(fields: Templated) -> None:
    """Raises ApiError for what tools and reasoning would need, as long as they are not served."""
    for name in ("tools", "functions"):
        if getattr(fields, name):
            raise not_supported(f"{name} is not available in this release", name)
    for name in ("tool_choice", "function_call"):
        if getattr(fields, name) not in (None, "none", "auto"):
            raise bad_request(f"{name}: there are no tools to choose from", name)
    if fields.reasoning_effort is not None:
        raise not_supported("reasoning_effort is not available in this release", "reasoning_effort")


def refuse_format(fields: ChatFields) -> None:
    """Raises ApiError unless the answer may be plain text."""
    if fields.response_format is None:
        return
    kind = fields.response_format.get("type")
    if kind in ("json_object", "json_schema"):
        raise not_supported(f"response_format {kind} is not available in this release", "response_format")
    if kind != "text":
        raise bad_request("response_format: type is text, json_object or json_schema", "response_format")


def template_arguments(fields: Templated) -> dict[str, Any]:
    """Keyword arguments for the template. Raises ApiError 400 where they contradict each other."""
    goes_on = bool(fields.continue_final_message)
    prompt = not goes_on if fields.add_generation_prompt is None else fields.add_generation_prompt
    if goes_on and prompt:
        message = "continue_final_message and add_generation_prompt exclude each other"
        raise ApiError(400, message, "continue_final_message")
    return {
        "add_generation_prompt": prompt,
        "continue_final_message": goes_on,
        "variables": fields.chat_template_kwargs or {},
    }
