"""Messages of content blocks to chat messages."""

import re
from collections.abc import Iterable
from typing import Any, Final

import attrs
import msgspec

from api.anthropic.ids import incoming
from api.anthropic.shapes import Blocks, MessageFields
from api.convert.transcript import Transcript
from api.convert.typed import typed
from api.errors import ApiError, bad_request

_MEDIA: Final = frozenset({"image", "document"})
# A command-line agent begins its system prompt with a line for its vendor's billing, another one in every request:
# with it, no prompt would ever be found in the cache.
_BILLING: Final = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n*")


@attrs.frozen(kw_only=True)
class _Text:
    text: str


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


def add_message(message: MessageFields, transcript: Transcript, where: str) -> None:
    """Add a message, or the several ones that it is in a chat. Raises ApiError 400 naming the block."""
    given = message.content
    blocks = [{"type": "text", "text": given}] if isinstance(given, str) else given
    match message.role:
        case "assistant":
            _add_assistant(blocks, transcript, where)
        case "user":
            _add_user(blocks, transcript, where)
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


def _add_user(blocks: list[dict[str, Any]], transcript: Transcript, where: str) -> None:
    """Results come first, wherever they stand: they belong to the calls of the message before."""
    texts: list[str] = []
    results = 0
    for block, place in _placed(blocks, where):
        if block.get("type") == "tool_result":
            results += 1
            result = typed(block, _ToolResult, place)
            transcript.result(incoming(result.tool_use_id), _result_text(result, place))
        else:
            texts.append(_text(block, place))
    if texts or not results:
        transcript.add("user", "\n".join(texts))


def _result_text(result: _ToolResult, where: str) -> str:
    """A chat has no field that says that a tool has failed, so the text says it where it does not already."""
    content = result.content or ""
    text = content if isinstance(content, str) else "\n".join(_texts(content, f"{where}.content"))
    return f"Error: {text}" if result.is_error and "error" not in text.lower() else text


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
