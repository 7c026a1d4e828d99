"""Calls and results in the forms that templates take, down to plain text for those that know neither."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llamabox.chat.normalise import Message
from llamabox.chat.normalise.roles import joined


def with_text_arguments(messages: Sequence[Message]) -> list[Message]:
    """The arguments of all calls as JSON text."""
    return [
        {**message, "tool_calls": [_text_arguments(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _text_arguments(call: Message) -> Message:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json_text(function["arguments"])}}


def one_call_each(messages: Sequence[Message]) -> list[Message]:
    """Messages of several calls become one for each call, followed by the results of that call.

    For templates that refuse more than one call in a message, or lose all but one.
    """
    result: list[Message] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            result.append(message)
            continue
        results: list[Message] = []
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        for n, call in enumerate(calls):
            head = message if n == 0 else {"role": message["role"], "content": ""}
            result.append({**head, "tool_calls": [call]})
            own = [answer for answer in results if answer.get("tool_call_id") == call.get("id")]
            result += own
            results = [answer for answer in results if answer not in own]
        result += results
    return result


def calls_as_text(messages: Sequence[Message]) -> list[Message]:
    """The calls of a message as JSON behind its text: ``{"tool_calls": [{"name", "arguments"}]}``."""
    return [_calls_as_text(message) if message.get("tool_calls") else message for message in messages]


def _calls_as_text(message: Message) -> Message:
    functions = (call["function"] for call in message["tool_calls"])
    calls = [{"name": function["name"], "arguments": function["arguments"]} for function in functions]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": joined((message["content"], json_text({"tool_calls": calls})))}


def results_as_text(messages: Sequence[Message]) -> list[Message]:
    """The results of calls as what a user says, in JSON: ``{"tool_response": {"name", "content"}}``."""
    return [_result_as_text(message) if message["role"] == "tool" else message for message in messages]


def _result_as_text(message: Message) -> Message:
    name = {"name": message["name"]} if "name" in message else {}
    return {"role": "user", "content": json_text({"tool_response": {**name, "content": message["content"]}})}


def json_text(value: Mapping[str, Any]) -> str:
    """JSON as templates write it."""
    return json.dumps(value, ensure_ascii=False)
