"""The renderer of the Responses API against the whole reply and the vendor's types."""

from typing import Any

import attrs
import pytest
from openai._models import construct_type_unchecked
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from api.errors import ApiError
from api.responses.ask import responses_ask
from api.responses.namespaces import by_name
from api.responses.reply import Reply, settings, whole_response
from api.responses.shapes import ResponsesFields
from api.responses.stream import ResponsesStream
from api.turn.model import Part
from engine.text.events import FinishReason, Timings
from engine.text.requests import SamplingParams
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Reasoning
from llamabox.settings import GenerationDefaults
from tests.api.responses.play import MORE_CALLS, OUTPUTS, Event, Output, cuts_of, parse

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}}


def make_reply(**changes: Any) -> Reply:
    fields = ResponsesFields(input="hi", tools=[TOOL])
    ask = responses_ask(fields, GenerationDefaults()).ask
    names = by_name([TOOL, {**TOOL, "name": "now"}])
    reply = Reply(uid="u", created=1, model="tiny", settings=settings(fields, ask, SamplingParams()), names=names)
    return attrs.evolve(reply, **changes)


def accumulated(events: list[Event]) -> list[dict[str, Any]]:
    """The output items as a client that reads nothing but deltas sees them, without their status."""
    items: list[dict[str, Any]] = []
    for event in events:
        data: dict[str, Any] = event.data
        match event.name:
            case "response.output_item.added":
                assert data["output_index"] == len(items)
                items.append({**data["item"]})
            case "response.content_part.added":
                items[data["output_index"]]["content"] = [data["part"]]
            case "response.output_text.delta" | "response.reasoning_text.delta":
                assert data["delta"]
                [part] = items[data["output_index"]]["content"]
                part["text"] += data["delta"]
            case "response.function_call_arguments.delta":
                assert data["delta"]
                items[data["output_index"]]["arguments"] += data["delta"]
    return [{key: value for key, value in item.items() if key != "status"} for item in items]


def without_status(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in item.items() if key != "status"} for item in items]


@pytest.mark.parametrize("name", OUTPUTS)
async def test_every_split_is_the_whole(name: str) -> None:
    output = OUTPUTS[name]
    whole = whole_response(make_reply(), await output.whole())
    Response.model_validate(whole)
    for cuts in cuts_of(output):
        events = output.streamed(ResponsesStream(make_reply()), cuts)
        last: Any = events[-1].data["response"]
        # How many of the tokens are reasoning is an estimate where a piece has both.
        last["usage"]["output_tokens_details"] = whole["usage"]["output_tokens_details"]
        assert last == whole
        assert accumulated(events) == without_status(whole["output"])


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_vendors_types_take_every_event(name: str) -> None:
    output = OUTPUTS[name]
    events = output.streamed(ResponsesStream(make_reply()), range(1, len(output.text)))
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    for number, event in enumerate(events):
        assert event.data["sequence_number"] == number
        EVENTS.validate_python(event.data)
        state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event.data))


def test_order_of_events() -> None:
    output = Output(text=f"<think>\nhm</think>\n\nOk. {MORE_CALLS}")
    names = [event.name.removeprefix("response.") for event in output.streamed(ResponsesStream(make_reply()))]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert names == [
        "created",
        "in_progress",
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *call,
        *call,
        "completed",
    ]


def test_kinds_that_alternate_become_items_of_their_own() -> None:
    stream = ResponsesStream(make_reply())
    deltas = [
        Content("a"),
        Reasoning("b"),
        Content("c"),
        CallStarted(0, "x", "add"),
        CallArguments(0, "{}"),
        Content("d"),
    ]
    part = Part(deltas=deltas, tokens=(), infos=(), timings=Timings())
    events = parse(stream.part(0, part))
    kinds = [item["type"] for item in accumulated(events)]
    assert kinds == ["message", "reasoning", "message", "function_call", "message"]
    ids = [item["id"] for item in accumulated(events)]
    assert len(set(ids)) == len(ids)


def test_progress_only_opens_the_response() -> None:
    events = OUTPUTS["text"].streamed(ResponsesStream(make_reply()), progress=True)
    assert [event.name for event in events[:3]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]


def test_logprobs_are_told_once() -> None:
    output = attrs.evolve(OUTPUTS["reasoning"], logprobs=True)
    events = output.streamed(ResponsesStream(make_reply(logprobs=True)), range(1, len(output.text)))
    told = [entry["token"] for e in events if e.name == "response.output_text.delta" for entry in e.data["logprobs"]]
    [done] = [event for event in events if event.name == "response.output_text.done"]
    assert [entry["token"] for entry in done.data["logprobs"]] == told
    assert "".join(told).endswith("Because.")
    assert "why" not in "".join(told)


async def test_logprobs_of_the_whole_leave_the_reasoning_out() -> None:
    output = attrs.evolve(OUTPUTS["reasoning"], logprobs=True)
    whole = whole_response(make_reply(logprobs=True), await output.whole())
    told = "".join(entry["token"] for entry in whole["output"][1]["content"][0]["logprobs"])
    assert told.endswith("Because.")
    assert "why" not in told


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "server_error"), (503, "server_error"), (429, "rate_limit_exceeded"), (400, "invalid_prompt")],
)
def test_failure(status: int, code: str) -> None:
    stream = ResponsesStream(make_reply())
    part = Part(deltas=[Content("Hel")], tokens=(), infos=(), timings=Timings())
    sent = stream.part(0, part) + stream.failed(ApiError(status, "no more"))
    events = parse(sent)
    for event in events:
        EVENTS.validate_python(event.data)
    error, failed = events[-2:]
    assert (error.name, error.data["message"]) == ("error", "no more")
    response: Any = failed.data["response"]
    assert (failed.name, response["status"], response["error"]["code"]) == ("response.failed", "failed", code)
    assert response["output"][0]["content"][0]["text"] == "Hel"
    assert response["output"][0]["status"] == "incomplete"


async def test_a_stop_string_in_a_call_leaves_it_incomplete() -> None:
    """And the response with it: elsewhere the turn has ended as it was to."""
    for text, statuses, cut in (
        ("Well. " + MORE_CALLS[:-15], ["completed", "completed", "incomplete"], True),
        ("Well. " + MORE_CALLS, ["completed"] * 3, False),
        ("Well. <tool_call>", ["completed"], False),
    ):
        output = Output(text=text, reason=FinishReason.WORD, stopping_word="END")
        events = output.streamed(ResponsesStream(make_reply()))
        last: Any = events[-1].data["response"]
        whole = whole_response(make_reply(), await output.whole())
        assert last == whole
        assert [item["status"] for item in whole["output"]] == statuses
        assert (whole["status"], events[-1].name) == (
            ("incomplete", "response.incomplete") if cut else ("completed", "response.completed")
        )
        assert whole["incomplete_details"] == ({"reason": "stop"} if cut else None)
        done: Any = [event.data["item"] for event in events if event.name == "response.output_item.done"]
        assert done == whole["output"]


def test_only_the_last_item_is_incomplete() -> None:
    output = Output(text="Well. " + MORE_CALLS[:-15], reason=FinishReason.LIMIT)
    response: Any = output.streamed(ResponsesStream(make_reply()))[-1].data["response"]
    assert [item["status"] for item in response["output"]] == ["completed", "completed", "incomplete"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["input_tokens"] == 6
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 2


async def test_a_call_that_is_whole_at_the_limit_is_completed() -> None:
    """Whatever came of what is around it. The response is incomplete, as the model was not at its end."""
    arguments = MORE_CALLS.rindex("{}")
    for end in range(arguments + 1, len(MORE_CALLS) + 1):
        output = Output(text=MORE_CALLS[:end], reason=FinishReason.LIMIT)
        last: Any = output.streamed(ResponsesStream(make_reply()))[-1].data["response"]
        whole = whole_response(make_reply(), await output.whole())
        assert last == whole
        status = "completed" if end >= arguments + len("{}") else "incomplete"
        assert [item["status"] for item in whole["output"]] == ["completed", status]
        assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_text_at_the_limit_is_incomplete() -> None:
    for text in ("Well. ", "<think>\nit", f"{MORE_CALLS} So"):
        output = Output(text=text, reason=FinishReason.LIMIT)
        last: Any = output.streamed(ResponsesStream(make_reply()))[-1].data["response"]
        *before, status = [item["status"] for item in last["output"]]
        assert (status, {*before, "completed"}) == ("incomplete", {"completed"})
