"""What a client makes of the chunks of a chat stream, which keep to the rules while it does."""

from typing import Any

import attrs

_TEXTS = {"function": "arguments", "custom": "input"}  # kind of a tool: what it gets


@attrs.define
class Streamed:
    """One choice, put together."""

    message: dict[str, Any] = attrs.field(factory=dict)
    finish_reason: str | None = None
    logprobs: list[Any] = attrs.field(factory=list)
    tokens: list[int] = attrs.field(factory=list)


def assemble(events: list[Any]) -> list[Streamed]:
    """The choices of a stream. Fails where a chunk breaks a rule of streaming."""
    *chunks, done = events
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices: dict[int, Streamed] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            _add(choices.setdefault(choice["index"], Streamed()), choice)
    assert all(choice.finish_reason for choice in choices.values())
    return [choices[index] for index in range(len(choices))]


def _add(so_far: Streamed, choice: dict[str, Any]) -> None:
    delta = choice["delta"]
    assert so_far.finish_reason is None, "nothing follows the finish reason"
    so_far.finish_reason = choice["finish_reason"]
    so_far.logprobs += (choice["logprobs"] or {"content": []})["content"]
    so_far.tokens += choice.get("tokens", [])
    if not so_far.message:
        assert delta == {"role": "assistant", "content": ""}, "the role comes first"
        so_far.message = dict(delta)
        return
    if so_far.finish_reason is not None:
        assert delta == {}
        return
    ((name, value),) = delta.items()
    assert value, "no delta is empty"
    match name:
        case "content" | "reasoning_content":
            so_far.message[name] = so_far.message.get(name, "") + value
        case "tool_calls":
            (call,) = value
            _add_call(so_far.message.setdefault(name, []), call)
        case "function_call":
            _add_function(so_far.message, value)
        case _:
            raise AssertionError(f"unknown delta {delta}")


def _add_call(calls: list[dict[str, Any]], call: dict[str, Any]) -> None:
    index = call.pop("index")
    if index == len(calls):
        kind = call["type"]
        assert call.keys() == {"id", "type", kind}
        assert call["id"]
        assert call[kind]["name"]
        assert call[kind] == {"name": call[kind]["name"], _TEXTS[kind]: ""}
        calls.append(call)
        return
    assert index == len(calls) - 1, "arguments are those of the last call"
    kind = calls[-1]["type"]
    assert call.keys() == {kind}
    assert call[kind].keys() == {_TEXTS[kind]}
    assert call[kind][_TEXTS[kind]]
    calls[-1][kind][_TEXTS[kind]] += call[kind][_TEXTS[kind]]


def _add_function(message: dict[str, Any], function: dict[str, Any]) -> None:
    if "function_call" not in message:
        assert function == {"name": function["name"], "arguments": ""}
        message["function_call"] = function
        return
    assert function.keys() == {"arguments"}
    assert function["arguments"]
    message["function_call"]["arguments"] += function["arguments"]
