"""The message object of the Messages API."""

from typing import Any, Final

import attrs
import msgspec

from api.anthropic.ids import outgoing
from api.turn.model import Ending, ToolCall, Turn, TurnEnd
from engine.text.events import Timings

_REASONS: Final[dict[Ending, str]] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@attrs.frozen(kw_only=True)
class Reply:
    """What is the same in every form of one message."""

    uid: str
    model: str
    stop: frozenset[str] = frozenset()  # stop_sequences
    hides_thinking: bool = False

    def body(self, content: list[dict[str, Any]], usage: dict[str, Any], **ending: Any) -> dict[str, Any]:
        """The message object; ``ending`` are stop_reason and stop_sequence, null while it is not known."""
        return {
            "id": f"msg_{self.uid}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
            **ending,
        }

    def ending(self, end: TurnEnd) -> dict[str, Any]:
        """stop_reason and stop_sequence. Only a sequence of the request counts: others are the server's affair."""
        if end.ending == "stop" and end.stop_string in self.stop:
            return {"stop_reason": "stop_sequence", "stop_sequence": end.stop_string}
        return {"stop_reason": _REASONS[end.ending], "stop_sequence": None}


def whole_message(reply: Reply, turn: Turn) -> dict[str, Any]:
    """The message object of a whole turn."""
    content: list[dict[str, Any]] = []
    if turn.reasoning:
        content.append(thinking_block("" if reply.hides_thinking else turn.reasoning))
    if turn.content:
        content.append(text_block(turn.content))
    content += [tool_use_block(call.id, call.name, _input(call)) for call in turn.calls]
    return reply.body(content, usage(turn.end.timings, turn.end.reasoning_tokens), **reply.ending(turn.end))


def thinking_block(text: str) -> dict[str, Any]:
    """Nothing is signed here: who gives the block back is believed."""
    return {"type": "thinking", "thinking": text, "signature": ""}


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def tool_use_block(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": outgoing(call_id), "name": name, "input": arguments}


def usage(timings: Timings, reasoning_tokens: int | None = None) -> dict[str, Any]:
    """Tokens read and written; ``input_tokens`` are those that no cache had. None is charged for writing to it."""
    body: dict[str, Any] = {
        "input_tokens": timings.prompt_n,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": timings.cache_n,
        "output_tokens": timings.predicted_n,
    }
    if reasoning_tokens is not None:
        body["output_tokens_details"] = {"thinking_tokens": reasoning_tokens}
    return body


def _input(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object, which is all that clients take. What is none (cut off at a limit) goes as it is
    under the key ``_raw``: a tool that checks its input refuses it, and nothing is lost."""
    if not call.arguments:
        return {}
    try:
        arguments = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    return arguments if isinstance(arguments, dict) else {"_raw": call.arguments}
