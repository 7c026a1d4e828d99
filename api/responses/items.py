"""Input items to chat messages."""

from typing import Any, Final, Literal

import attrs

from api.convert.transcript import Content, Transcript, content_of
from api.convert.typed import typed
from api.custom.functions import arguments_of
from api.errors import bad_request
from api.modalities import TEXT_ONLY, Modalities
from api.responses.namespaces import joined
from api.responses.sealed import unseal
from llamabox.media.parts import media_part, source_of

_TEXTS: Final = frozenset({"input_text", "output_text", "text", "reasoning_text", "summary_text"})
_MEDIA: Final = frozenset({"input_image", "input_audio", "input_file"})

type Parts = str | list[dict[str, Any]]


@attrs.frozen(kw_only=True)
class _Message:
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts


@attrs.frozen(kw_only=True)
class _Call:
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


@attrs.frozen(kw_only=True)
class _CustomCall:
    call_id: str
    name: str
    input: str
    namespace: str | None = None


@attrs.frozen(kw_only=True)
class _Output:
    call_id: str
    output: Parts


@attrs.frozen(kw_only=True)
class _Reasoning:
    content: Parts | None = None
    summary: Parts | None = None
    encrypted_content: str | None = None


@attrs.frozen(kw_only=True)
class _Text:
    text: str


@attrs.frozen(kw_only=True)
class _Refusal:
    refusal: str


def add_input(
    given: Parts, transcript: Transcript, modalities: Modalities = TEXT_ONLY, *, field: str = "input"
) -> None:
    """Add what ``field`` says. Raises ApiError 400 naming the item at fault."""
    if isinstance(given, str):
        transcript.add("user", given)
        return
    for index, item in enumerate(given):
        _add_item(item, transcript, f"{field}[{index}]", modalities)


def _add_item(item: dict[str, Any], transcript: Transcript, where: str, modalities: Modalities) -> None:
    match item.get("type"):
        case "message" | None:
            message = typed(item, _Message, where)
            place = f"{where}.content"
            if message.role == "assistant":
                transcript.say(_text(message.content, place))
            else:
                transcript.add(message.role, _content(message.content, place, modalities))
        case "function_call":
            call = typed(item, _Call, where)
            transcript.call(call.call_id, _name(call), call.arguments)
        case "custom_tool_call":
            custom = typed(item, _CustomCall, where)
            transcript.call(custom.call_id, _name(custom), arguments_of(custom.input))
        case "function_call_output" | "custom_tool_call_output":
            output = typed(item, _Output, where)
            transcript.result(output.call_id, _content(output.output, f"{where}.output", modalities))
        case "reasoning":
            if text := _reasoning(typed(item, _Reasoning, where), where):
                transcript.reason(text)
        case kind:
            raise bad_request(f"{where}.type: {kind!r} is no item that this server knows", f"{where}.type")


def _name(call: _Call | _CustomCall) -> str:
    return call.name if call.namespace is None else joined(call.namespace, call.name)


def _reasoning(item: _Reasoning, where: str) -> str:
    """The reasoning itself where there is a way to it, else the summary."""
    text = _text(item.content or "", f"{where}.content")
    return text or unseal(item.encrypted_content or "") or _text(item.summary or "", f"{where}.summary")


def _content(parts: Parts, where: str, modalities: Modalities) -> Content:
    """Text, images and sounds."""
    if isinstance(parts, str):
        return parts
    return content_of([_medium(part, f"{where}[{index}]", modalities) for index, part in enumerate(parts)])


def _medium(part: dict[str, Any], where: str, modalities: Modalities) -> str | dict[str, Any]:
    kind = part.get("type")
    if kind not in _MEDIA or not modalities.takes(kind, where):
        return _part(part, where)
    if kind == "input_audio":
        return media_part("input_audio", source_of({**part, "type": "input_audio"}, where), where)
    if part.get("file_id") is not None:
        raise bad_request(f"{where}.file_id: no files are kept here, send the image itself", f"{where}.file_id")
    return media_part("image_url", source_of({**part, "type": "image_url"}, where), where)


def _text(parts: Parts, where: str) -> str:
    if isinstance(parts, str):
        return parts
    return "\n".join(_part(part, f"{where}[{index}]") for index, part in enumerate(parts))


def _part(part: dict[str, Any], where: str) -> str:
    kind = part.get("type")
    if kind in _TEXTS:
        return typed(part, _Text, where).text
    if kind == "refusal":
        return typed(part, _Refusal, where).refusal
    if kind in _MEDIA:
        raise bad_request(f"{where}: the model has no such modality ({kind})", where)
    raise bad_request(f"{where}.type: {kind!r} is no part that this server knows", f"{where}.type")
