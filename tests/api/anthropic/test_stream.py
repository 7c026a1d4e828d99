"""The renderer of the Messages API against the whole message and the vendor's types."""

from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from api.anthropic.reply import Reply, whole_message
from api.anthropic.stream import MessagesStream
from api.errors import ApiError
from api.turn.model import Part, ToolCall, Turn, TurnEnd
from engine.text.events import FinishReason, Timings
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Reasoning
from tests.api.responses.play import MORE_CALLS, OUTPUTS, Event, Output, cuts_of, parse

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
REPLY = Reply(uid="u", model="tiny", stop=frozenset({"END"}))
HIDING = Reply(uid="u", model="tiny", hides_thinking=True)


def new_stream(reply: Reply = REPLY) -> MessagesStream:
    return MessagesStream(reply, "me")


def accumulated(events: list[Event]) -> dict[str, Any]:
    """The message as the vendor's client puts it together."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        typed = EVENTS.validate_python(event.data)
        snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)
    body: dict[str, Any] = snapshot.to_dict(exclude_unset=True)
    return body


@pytest.mark.parametrize("reply", [REPLY, HIDING], ids=["open", "hiding"])
@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "cut call"])
async def test_every_split_is_the_whole(name: str, reply: Reply) -> None:
    output = OUTPUTS[name]
    whole = whole_message(reply, await output.whole())
    Message.model_validate(whole)
    for cuts in cuts_of(output):
        message = accumulated(output.streamed(new_stream(reply), cuts))
        # How many of the tokens are reasoning is an estimate where a piece has both.
        message["usage"]["output_tokens_details"] = whole["usage"]["output_tokens_details"]
        assert {key: value for key, value in message.items() if value is not None} == {
            key: value for key, value in whole.items() if value is not None
        }


async def test_a_call_that_was_cut_off() -> None:
    output = OUTPUTS["cut call"]
    whole = whole_message(REPLY, await output.whole())
    Message.model_validate(whole)
    [use] = whole["content"]
    assert whole["stop_reason"] == "max_tokens"
    assert use["input"].keys() == {"_raw"}
    for cuts in cuts_of(output):
        events = output.streamed(new_stream(), cuts)
        deltas: Any = [event.data["delta"] for event in events if event.name == "content_block_delta"]
        assert "".join(delta["partial_json"] for delta in deltas) == use["input"]["_raw"]
        assert accumulated(events)["stop_reason"] == "max_tokens"


async def test_a_call_that_is_whole_at_the_limit() -> None:
    """All of its input is there; who reads the reason knows that the model had not come to its end."""
    output = OUTPUTS["limit behind calls"]
    whole = whole_message(REPLY, await output.whole())
    assert [use["input"] for use in whole["content"]] == [{"a": 1, "b": "é"}, {}]
    assert whole["stop_reason"] == accumulated(output.streamed(new_stream()))["stop_reason"] == "max_tokens"


def test_order_of_events() -> None:
    output = Output(text=f"<think>\nhm</think>\n\nOk. {MORE_CALLS}")
    found = []
    for event in output.streamed(new_stream()):
        data: Any = event.data
        found.append((event.name, data["delta"]["type"]) if event.name == "content_block_delta" else event.name)
    start, stop = "content_block_start", "content_block_stop"
    assert found == [
        "message_start",
        *(start, ("content_block_delta", "thinking_delta"), ("content_block_delta", "signature_delta"), stop),
        *(start, ("content_block_delta", "text_delta"), stop),
        *(start, ("content_block_delta", "input_json_delta"), stop),
        *(start, ("content_block_delta", "input_json_delta"), stop),
        "message_delta",
        "message_stop",
    ]


def test_kinds_that_alternate_become_blocks_of_their_own() -> None:
    deltas = [Content("a"), Reasoning("b"), Content("c"), CallStarted(0, "x", "add"), CallArguments(0, "{}")]
    part = Part(deltas=[*deltas, Content("d")], tokens=(), infos=(), timings=Timings())
    blocks: Any = [e.data for e in parse(new_stream().part(0, part)) if e.name == "content_block_start"]
    assert [block["content_block"]["type"] for block in blocks] == ["text", "thinking", "text", "tool_use", "text"]
    assert [block["index"] for block in blocks] == [0, 1, 2, 3, 4]


def test_no_empty_deltas() -> None:
    for output in OUTPUTS.values():
        for event in output.streamed(new_stream(), range(1, len(output.text))):
            data: Any = event.data
            if event.name == "content_block_delta" and data["delta"]["type"] != "signature_delta":
                assert all(data["delta"].values())


def test_usage_comes_at_both_ends() -> None:
    first, *_, last, _ = OUTPUTS["text"].streamed(new_stream(), (5,), progress=True)
    message: Any = first.data["message"]
    assert (message["usage"]["input_tokens"], message["usage"]["cache_read_input_tokens"]) == (4, 2)
    usage: Any = last.data["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (4, 2, 12)


@pytest.mark.parametrize(
    ("reason", "word", "expected"),
    [
        (FinishReason.EOS, "", ("end_turn", None)),
        (FinishReason.WORD, "END", ("stop_sequence", "END")),
        (FinishReason.WORD, "a server's own", ("end_turn", None)),
        (FinishReason.LIMIT, "", ("max_tokens", None)),
    ],
)
def test_stop_reasons(reason: FinishReason, word: str, expected: tuple[str, str | None]) -> None:
    output = Output(text="hi", reason=reason, stopping_word=word)
    delta: Any = output.streamed(new_stream())[-2].data["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": [1, "é"]}', {"a": [1, "é"]}),
        ("", {}),
        ('{"a": ', {"_raw": '{"a": '}),
        ("[1]", {"_raw": "[1]"}),
        ("null", {"_raw": "null"}),
        ('{"a":' + "[" * 100_000, {"_raw": '{"a":' + "[" * 100_000}),
    ],
    ids=["object", "none", "cut", "list", "null", "deep"],
)
def test_arguments(arguments: str, expected: dict[str, Any]) -> None:
    end = TurnEnd(ending="tool_calls", stop_string="", timings=Timings(), reasoning_tokens=0)
    calls = [ToolCall("1", "add", arguments)]
    turn = Turn(content="", reasoning="", calls=calls, tokens=(), infos=(), end=end)
    assert whole_message(REPLY, turn)["content"] == [
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": expected}
    ]


def test_failure() -> None:
    stream = new_stream()
    part = Part(deltas=[Content("Hel")], tokens=(), infos=(), timings=Timings())
    *_, error = parse(stream.part(0, part) + stream.failed(ApiError(503, "no more")))
    assert error.name == "error"
    assert error.data == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "no more"},
        "request_id": "me",
    }


def test_ping() -> None:
    [ping] = parse(MessagesStream.ping)
    assert ping == Event("ping", {"type": "ping"})
