"""The response object of the Responses API."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from api.errors import ApiError
from api.logprobs import chat_logprobs
from api.responses.namespaces import Given, by_name
from api.responses.output import CUSTOM, FUNCTION, CallItem, Item, MessageItem, ReasoningItem, Status
from api.responses.shapes import ResponsesFields
from api.responses.tools import tools_json
from api.turn.model import Turn, TurnEnd
from engine.text.requests import SamplingParams, TokenInfo
from llamabox.chat.ask import ChatAsk


@attrs.frozen(kw_only=True)
class Reply:
    """What is the same in every form of one response."""

    uid: str
    created: int  # Unix time
    model: str
    settings: Mapping[str, Any]
    names: Mapping[str, Given]  # the tools by what the model calls them
    logprobs: bool = False
    sealed_reasoning: bool = False

    def body(self, status: str, output: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
        """The response object; ``changes`` are fields that are not null or empty this time."""
        return {
            "id": f"resp_{self.uid}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": output,
            "usage": None,
            **self.settings,
            **changes,
        }

    def ended(self, output: Sequence[dict[str, Any]], end: TurnEnd) -> dict[str, Any]:
        """The response object of a turn that has ended."""
        reason = _cut_by(end)
        if reason is None:
            return self.body("completed", output, usage=usage(end))
        return self.body("incomplete", output, incomplete_details={"reason": reason}, usage=usage(end))

    def failed(self, output: Sequence[dict[str, Any]], error: ApiError) -> dict[str, Any]:
        """The response object of a turn that could not go on."""
        return self.body("failed", output, error={"code": _failure(error), "message": error.message})

    def reasoning_item(self, index: int) -> ReasoningItem:
        return ReasoningItem(f"rs_{self.uid}_{index}", self.sealed_reasoning)

    def message_item(self, index: int) -> MessageItem:
        return MessageItem(f"msg_{self.uid}_{index}")

    def call_item(self, index: int, call_id: str, name: str) -> CallItem:
        given = self.names[name]
        form = CUSTOM if given.is_custom else FUNCTION
        return CallItem(f"{form.prefix}_{self.uid}_{index}", call_id, given.name, given.namespace, form)

    def logprobs_of(self, infos: Sequence[TokenInfo]) -> list[dict[str, Any]]:
        """The entries for these tokens, none where they were not asked for."""
        entries: list[dict[str, Any]] = chat_logprobs(infos)["content"] if self.logprobs and infos else []
        return entries


def settings(fields: ResponsesFields, ask: ChatAsk, sampling: SamplingParams) -> dict[str, Any]:
    """What the reply repeats of the request, with the values that were used."""
    given = fields.text.format if fields.text is not None else None
    return {
        "background": False,
        "instructions": fields.instructions,
        "max_output_tokens": fields.token_limit,
        "metadata": fields.metadata or {},
        "parallel_tool_calls": ask.parallel,
        "previous_response_id": fields.previous_response_id,
        "reasoning": {"effort": fields.reasoning.effort if fields.reasoning is not None else None, "summary": None},
        "store": fields.is_kept,
        "temperature": sampling.temperature,
        "text": {"format": given or {"type": "text"}},
        "tool_choice": "auto" if fields.tool_choice is None else fields.tool_choice,
        "tools": tools_json(ask.tools, by_name(fields.tools)),
        "top_logprobs": fields.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
    }


def whole_response(reply: Reply, turn: Turn) -> dict[str, Any]:
    """The response object of a whole turn."""
    items: list[Item] = []
    if turn.reasoning:
        reasoning = reply.reasoning_item(0)
        reasoning.add(turn.reasoning)
        items.append(reasoning)
    if turn.content or not (turn.reasoning or turn.calls):
        message = reply.message_item(len(items))
        message.add(turn.content, reply.logprobs_of(turn.infos[turn.end.reasoning_tokens :]))
        items.append(message)
    for call in turn.calls:
        item = reply.call_item(len(items), call.id, call.name)
        item.add(call.arguments)
        items.append(item)
    *whole, last = items
    output = [*(item.json("completed") for item in whole), last.json(last_status(last, turn.end))]
    return reply.ended(output, turn.end)


def last_status(item: Item, end: TurnEnd) -> Status:
    """How the last item of a turn has ended. A call is complete where its text is, also right before a limit."""
    cut = end.cut_call if isinstance(item, CallItem) else end.ending == "length"
    return "incomplete" if cut else "completed"


def usage(end: TurnEnd) -> dict[str, Any]:
    """Tokens read and written. Keeping a prompt in the cache costs nothing here, so none counts as written to it."""
    timings = end.timings
    prompt = timings.cache_n + timings.prompt_n
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": timings.cache_n, "cache_write_tokens": 0},
        "output_tokens": timings.predicted_n,
        "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
        "total_tokens": prompt + timings.predicted_n,
    }


def _cut_by(end: TurnEnd) -> str | None:
    """The field that left the turn incomplete. OpenAI's own API has no ``stop``, and so no such reason."""
    if end.ending == "length":
        return "max_output_tokens"
    return "stop" if end.cut_call else None


def _failure(error: ApiError) -> str:
    """One of the codes that the API has for a failed response."""
    if error.status == 429:
        return "rate_limit_exceeded"
    return "server_error" if error.status >= 500 else "invalid_prompt"
