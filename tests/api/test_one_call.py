"""parallel_tool_calls: false where the model writes several calls all the same: the turn ends before the second one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from api.responses.stream import ResponsesStream
from api.turn.reading import TurnReader
from api.turn.stream import TurnStream
from api.turn.whole import read_turns
from engine.text.events import FinishReason
from engine.text.requests import GenerationRequest
from llamabox.chat.parser import OutputParser
from tests.api.chat_stream import assemble
from tests.api.conftest import Client, Reply
from tests.api.fake_engine import FakeEngine, Script, Step, say
from tests.api.fake_prompts import FORMAT
from tests.api.responses.play import MORE_CALLS, Output, Played
from tests.api.responses.play import TOOLS as TOOLS_OF_PLAY
from tests.api.responses.test_stream import make_reply
from tests.api.test_chat_turns import ASK, CHAT, FIRST, MESSAGE, OUTPUT, SECOND, TOOLS

ONE = {**ASK, "parallel_tool_calls": False}
BARE = f"{FIRST[12:-13]}\n{SECOND[12:-13]}"  # without its marks, which no grammar waits for then
pytestmark = pytest.mark.usefixtures("autojump_clock")

NAMED = OUTPUT.index(SECOND) + SECOND.index("{}") + 1  # from here on the second one is a call


async def post(client: Client, path: str, body: dict[str, Any]) -> Reply:
    """A generation without an end would be waited for."""
    with trio.fail_after(5):
        return await client.post(path, body)


def choices_of(reply: Reply) -> list[tuple[dict[str, Any], str]]:
    """Messages and finish reasons, of a stream or a whole reply."""
    if reply.headers["Content-Type"].startswith("text/event-stream"):
        return [(choice.message, choice.finish_reason) for choice in assemble(reply.events)]
    told = [(choice["message"], choice["finish_reason"]) for choice in reply.json["choices"]]
    for message, _ in told:
        assert message.pop("refusal") is None
    return told


def endless(*texts: str) -> Script:
    """A model that never stops behind these texts."""

    def script(request: GenerationRequest) -> Sequence[Step]:
        return [*say(*texts)(request)[:-1], trio.Event()]

    return script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pieces", [list, lambda text: [text]], ids=["tokens", "at once"])
async def test_the_second_call_ends_the_turn(
    client: Client, engine: FakeEngine, stream: bool, pieces: Callable[[str], Sequence[str]]
) -> None:
    """And the generation, which would go on without an end."""
    engine.script = endless(*pieces(OUTPUT))
    reply = await post(client, CHAT, {**ONE, "stream": stream})
    assert choices_of(reply) == [({**MESSAGE, "tool_calls": MESSAGE["tool_calls"][:1]}, "tool_calls")]
    assert engine.closed == [engine.opened[0].id]
    assert len(client.services.running) == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_without_their_marks(client: Client, engine: FakeEngine, stream: bool) -> None:
    engine.script = endless(*BARE)
    [(message, reason)] = choices_of(await post(client, CHAT, {**ONE, "stream": stream}))
    assert (message["tool_calls"], reason) == (MESSAGE["tool_calls"][:1], "tool_calls")
    assert not message["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "word"), [(FinishReason.LIMIT, ""), (FinishReason.WORD, "END"), (FinishReason.EOS, "")]
)
async def test_what_ends_the_generation_behind_it_is_no_matter(
    client: Client, engine: FakeEngine, stream: bool, reason: FinishReason, word: str
) -> None:
    for end in (NAMED - 1, NAMED):
        engine.script = say(held_back=OUTPUT[:end], reason=reason, stopping_word=word)
        [(message, told)] = choices_of(await post(client, CHAT, {**ONE, "stream": stream}))
        assert len(message["tool_calls"]) == 1
        assert told == ("length" if reason is FinishReason.LIMIT and end < NAMED else "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
async def test_other_choices_go_on(client: Client, engine: FakeEngine, stream: bool) -> None:
    """What a choice that has ended still gets is not told; the last one that ends ends it."""
    gate = trio.Event()

    def script(request: GenerationRequest) -> Sequence[Step]:
        if request.id.endswith("0"):
            return endless(OUTPUT, SECOND, "more")(request)
        return [gate, *say(*FIRST)(request)]

    engine.script = script
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await post(client, CHAT, {**ONE, "n": 2, "stream": stream}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert engine.closed == []
        gate.set()
    (first, _), (second, _) = choices_of(replies[0])
    assert (first["content"], len(first["tool_calls"]), len(second["tool_calls"])) == ("Well.", 1, 1)
    assert len(engine.closed) == 2


async def test_figures_are_those_at_the_end_of_the_turn(client: Client, engine: FakeEngine) -> None:
    """The tokens of the second call's beginning were computed: they are told, and count."""
    engine.script = endless(*OUTPUT)
    reply = await post(client, CHAT, {**ONE, "logprobs": True, "return_tokens": True})
    (choice,) = reply.json["choices"]
    read = list(OUTPUT[:NAMED].encode())
    assert (choice["tokens"], len(choice["logprobs"]["content"])) == (read, len(read))
    assert reply.json["usage"]["completion_tokens"] == len(read)
    metrics = (await client.get("/metrics")).body.decode()
    assert "time_to_first_token_seconds_count 1.0" in metrics


async def test_what_came_along_with_the_second_call_is_not_told() -> None:
    events = [*Output(text=MORE_CALLS).events([1, len(MORE_CALLS) - 1])[:-1], *Output(text="More.").events([])]

    def reader() -> TurnReader:
        return TurnReader(OutputParser(FORMAT, tools=TOOLS_OF_PLAY, parallel=False, new_id=lambda: "id"))

    played = Played([(0, event) for event in events])
    (turn,) = await read_turns(played, [reader()])
    assert (turn.content, [call.name for call in turn.calls], turn.end.ending) == ("", ["add"], "tool_calls")
    assert set(played.left) == {0}
    left: list[int] = []
    stream = TurnStream([reader()], ResponsesStream(make_reply()), left.append)
    _, second, *rest = [stream.feed(0, event) for event in events]
    assert b"response.completed" in second
    assert (left, set(rest)) == ([0], {b""})


@pytest.mark.parametrize("stream", [False, True])
async def test_in_the_other_apis(client: Client, engine: FakeEngine, stream: bool) -> None:
    engine.script = endless(*OUTPUT)
    functions = [tool["function"] for tool in TOOLS]
    response = await post(
        client,
        "/v1/responses",
        {
            "input": "hi",
            "tools": [{"type": "function", **function} for function in functions],
            "parallel_tool_calls": False,
            "stream": stream,
        },
    )
    message = await post(
        client,
        "/v1/messages",
        {
            "max_tokens": 1000,
            "messages": ASK["messages"],
            "tools": [{"name": f["name"], "input_schema": f["parameters"]} for f in functions],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "stream": stream,
        },
    )
    if stream:
        assert response.body.count(b"event: response.output_item.added") == 3
        assert b"event: response.completed" in response.body
        assert message.body.count(b"event: content_block_start") == 3
        assert b'"stop_reason":"tool_use"' in message.body
    else:
        assert [item["type"] for item in response.json["output"]] == ["reasoning", "message", "function_call"]
        assert response.json["status"] == "completed"
        assert [block["type"] for block in message.json["content"]] == ["thinking", "text", "tool_use"]
        assert message.json["stop_reason"] == "tool_use"
