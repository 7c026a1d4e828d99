"""OpenAI's older way of calling functions, in messages: function_call, and the role "function"."""

from typing import Any


def modern(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with function calls as tool calls. Indices stay, so that errors can name them."""
    result = []
    last_id = ""
    for index, message in enumerate(messages):
        if message.get("role") == "assistant" and message.get("function_call") and not message.get("tool_calls"):
            last_id = f"call_{index}"
            call = {"id": last_id, "type": "function", "function": message["function_call"]}
            message = {**_without_call(message), "tool_calls": [call]}
        elif message.get("role") == "function":
            message = {**message, "role": "tool", "tool_call_id": last_id}
        elif "function_call" in message:
            message = _without_call(message)
        result.append(message)
    return result


def _without_call(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "function_call"}
