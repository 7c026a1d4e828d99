"""Messages of content blocks to chat messages."""

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import attrs
import msgspec

from api.anthropic.ids import incoming
from api.anthropic.shapes import Blocks, MessageFields
from api.convert.transcript import Content, Transcript, content_of
from api.convert.typed import typed
from api.errors import ApiError, bad_request
from api.modalities import TEXT_ONLY, Modalities
from llamabox.media.parts import media_part

_MEDIA: Final = frozenset({"image", "document"})
_KINDS: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# A command-line agent begins its system prompt with a line for its vendor's billing, another one in every request:
# with it, no prompt would ever be found in the cache.
_BILLING: Final = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n*")


@attrs.frozen(kw_only=True)
class _Text:
    text: str


@attrs.frozen(kw_only=True)
class _Source:
    type: Literal["base64", "url"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


@attrs.frozen(kw_only=True)
class _Image:
    source: _Source


@attrs.frozen(kw_only=True)
class _Thinking:
    thinking: str


@attrs.frozen(kw_only=True)
class _ToolUse:
    id: str
    name: str
    input: dict[str, Any]


@attrs.frozen(kw_only=True)
class _ToolResult:
    tool_use_id: str
    content: Blocks | None = None
    is_error: bool | None = None


def add_system(given: Blocks | None, transcript: Transcript) -> None:
    """Add the system prompt. Raises ApiError 400."""
    texts = [given or ""] if isinstance(given, str | None) else _texts(given, "system")
    kept = (_BILLING.sub("", text) for text in texts)
    if system := "\n".join(text for text in kept if text):
        transcript.add("system", system)


def add_message(message: MessageFields, transcript: Transcript, where: str, modalities: Modalities = TEXT_ONLY) -> None:
    """Add a message, or the several ones that it is in a chat. Raises ApiError 400 naming the block."""
    given = message.content
    blocks = [{"type": "text", "text": given}] if isinstance(given, str) else given
    match message.role:
        case "assistant":
            _add_assistant(blocks, transcript, where)
        case "user":
            _add_user(blocks, transcript, where, modalities)
        case "system":
            transcript.add("system", "\n".join(_texts(blocks, f"{where}.content")))


def _add_assistant(blocks: list[dict[str, Any]], transcript: Transcript, where: str) -> None:
    for block, place in _placed(blocks, where):
        match block.get("type"):
            case "text":
                transcript.say(typed(block, _Text, place).text)
            case "thinking":
                transcript.reason(typed(block, _Thinking, place).thinking)
            case "redacted_thinking":
                pass  # nobody but its author can read it
            case "tool_use":
                use = typed(block, _ToolUse, place)
                transcript.call(incoming(use.id), use.name, msgspec.json.encode(use.input).decode())
            case kind:
                raise _unknown(kind, place)
    if not blocks:
        transcript.say("")


def _add_user(blocks: list[dict[str, Any]], transcript: Transcript, where: str, modalities: Modalities) -> None:
    """Results come first, wherever they stand: they belong to the calls of the message before."""
    parts: list[str | dict[str, Any]] = []
    results = 0
    for block, place in _placed(blocks, where):
        if block.get("type") == "tool_result":
            results += 1
            result = typed(block, _ToolResult, place)
            transcript.result(incoming(result.tool_use_id), _result(result, place, modalities))
        else:
            parts.append(_part(block, place, modalities))
    if parts or not results:
        transcript.add("user", content_of(parts))


def _result(result: _ToolResult, where: str, modalities: Modalities) -> Content:
    """A chat has no field that says that a tool has failed, so the text says it where it does not already."""
    given = result.content or ""
    blocks = [{"type": "text", "text": given}] if isinstance(given, str) else given
    content = content_of([_part(block, f"{where}.content[{n}]", modalities) for n, block in enumerate(blocks)])
    if not result.is_error or "error" in str(content).lower():
        return content
    return f"Error: {content}" if isinstance(content, str) else [{"type": "text", "text": "Error:"}, *content]


def _part(block: dict[str, Any], where: str, modalities: Modalities) -> str | dict[str, Any]:
    """Text, or an image."""
    if block.get("type") != "image" or not modalities.takes("image", where):
        return _text(block, where)
    source = typed(block, _Image, where).source
    if source.type == "url" and source.url:
        return media_part("image_url", source.url, where)
    if source.type == "base64" and source.data and source.media_type in _KINDS:
        return media_part("image_url", f"data:{source.media_type};base64,{source.data}", where)
    known = ", ".join(sorted(_KINDS))
    raise bad_request(f"{where}.source: expected a url, or data and a media_type of {known}", f"{where}.source")


def _placed(blocks: list[dict[str, Any]], where: str) -> Iterable[tuple[dict[str, Any], str]]:
    return ((block, f"{where}.content[{index}]") for index, block in enumerate(blocks))


def _texts(blocks: list[dict[str, Any]], where: str) -> list[str]:
    return [_text(block, f"{where}[{index}]") for index, block in enumerate(blocks)]


def _text(block: dict[str, Any], where: str) -> str:
    kind = block.get("type")
    if kind == "text":
        return typed(block, _Text, where).text
    if kind in _MEDIA:
        raise bad_request(f"{where}: the model has no such modality ({kind})", where)
    raise _unknown(kind, where)


def _unknown(kind: object, where: str) -> ApiError:
    return bad_request(f"{where}.type: {kind!r} is no block that this server knows here", f"{where}.type")
