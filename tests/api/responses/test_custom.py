"""Custom tools in the Responses API: as Codex sends apply_patch."""

import json
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from engine.text.events import FinishReason
from llamabox.chat.ask import ToolChoice
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, say
from tests.api.responses.play import parse

PATH = "/v1/responses"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USER = {"role": "user", "content": "hi"}
FORMAT = {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" /(.|\\n)*/'}
PATCH: dict[str, Any] = {"type": "custom", "name": "patch", "description": "Edits files.", "format": FORMAT}
ADD: dict[str, Any] = {"type": "function", "name": "add"}
TEXT = '*** Begin Patch\n+"é"\\n\t😀\n'


def call(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


OUTPUT = "\n".join(["Well.", call("patch", {"input": TEXT}), call("add", {"input": 5})])


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    reply = await client.post(PATH, {"input": "hi", "tools": [ADD, PATCH], **fields})
    assert reply.status == 200, reply.body
    return reply.json


async def streamed(client: Client, **fields: Any) -> list[Any]:
    reply = await client.post(PATH, {"input": "hi", "tools": [ADD, PATCH], "stream": True, **fields})
    return [event.data for event in parse(reply.body)]


def told(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The output without the ids of the items, which are new each time."""
    return [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]


async def test_whole(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*OUTPUT)
    response = await create(client)
    _, custom, function = response["output"]
    assert custom.pop("id").startswith("ctc_")
    assert custom == {
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "call_0",
        "name": "patch",
        "input": TEXT,
    }
    assert (function["type"], function["arguments"]) == ("function_call", '{"input": 5}')
    assert response["tools"][1] == PATCH
    Response.model_validate(response)
    bare = await create(client, tools=[{"type": "custom", "name": "patch"}])
    assert bare["tools"] == [{"type": "custom", "name": "patch", "description": None, "format": {"type": "text"}}]


async def test_a_stream_adds_up_to_the_whole_reply(client: Client, engine: FakeEngine) -> None:
    engine.script = say(OUTPUT)
    whole = told(await create(client))
    for pieces in (list(OUTPUT), *([OUTPUT[:at], OUTPUT[at:]] for at in range(1, len(OUTPUT)))):
        engine.script = say(*pieces)
        events = await streamed(client)
        assert told(events[-1]["response"]) == whole, pieces
        deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
        assert "".join(deltas) == TEXT
        assert all(deltas)
        [done] = [event for event in events if event["type"] == "response.custom_tool_call_input.done"]
        item = events[-1]["response"]["output"][1]
        assert (done["input"], done["item_id"], done["output_index"]) == (TEXT, item["id"], 1)
        for event in events:
            EVENTS.validate_python(event)


async def test_order_of_events(client: Client, engine: FakeEngine) -> None:
    engine.script = say('<tool_call>\n{"name": "patch", "arguments": {"input": "a', "b\\", 'n"}}\n</tool_call>')
    events = (await streamed(client))[2:-1]
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added",
        *["custom_tool_call_input.delta"] * 3,
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    added, *deltas, _, done = events
    assert (added["item"]["input"], added["item"]["status"]) == ("", "in_progress")
    assert [delta["delta"] for delta in deltas] == ["a", "b", "\n"]
    assert (done["item"]["input"], done["item"]["status"]) == ("ab\n", "completed")


async def test_a_call_that_is_cut_off_is_incomplete(client: Client, engine: FakeEngine) -> None:
    engine.script = say(*call("patch", {"input": "abc"})[:-16], reason=FinishReason.LIMIT)
    response = await create(client)
    events = await streamed(client)
    assert told(events[-1]["response"]) == told(response)
    [item] = response["output"]
    assert "abc".startswith(item["input"])
    assert (item["type"], item["status"], response["status"]) == ("custom_tool_call", "incomplete", "incomplete")


async def test_what_the_model_is_asked(client: Client) -> None:
    named = {"type": "custom", "name": "patch"}
    for choice, wanted in (
        ("required", (ToolChoice.REQUIRED, None, ["add", "patch"])),
        (named, (ToolChoice.REQUIRED, "patch", ["add", "patch"])),
        ({"type": "allowed_tools", "mode": "auto", "tools": [named]}, (ToolChoice.AUTO, None, ["patch"])),
    ):
        await create(client, tool_choice=choice)
        ask = client.services.prompts.asks[-1]
        assert (ask.choice, ask.named, [tool.name for tool in ask.tools]) == wanted
        assert ask.tools[-1].description.startswith("Edits files.")
        assert ask.tools[-1].description.endswith(FORMAT["definition"])


async def test_the_vendors_client_goes_on(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    engine.script = say(*OUTPUT)
    asked: dict[str, Any] = {"model": "tiny", "tools": [ADD, PATCH]}
    async with sdk.responses.stream(input="hi", **asked) as stream:
        events = [event async for event in stream]
        response = await stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == response.output[1].input == TEXT
    results = [
        {"type": "custom_tool_call_output", "call_id": "call_0", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "function_call_output", "call_id": "call_1", "output": "6"},
    ]
    by_id = await sdk.responses.create(input=results, previous_response_id=response.id, **asked)
    await sdk.responses.create(input=[USER, *response.output, *results], **asked)
    references = [{"type": "item_reference", "id": item.id} for item in response.output]
    await sdk.responses.create(input=[USER, *references, *results], **asked)
    asks = client.services.prompts.asks[1:]
    assert asks[0] == asks[1] == asks[2]
    _, said, first, second = asks[0].messages
    patch, add = said["tool_calls"]
    assert patch["function"]["name"] == "patch"
    assert json.loads(patch["function"]["arguments"]) == {"input": TEXT}
    assert add["function"] == {"name": "add", "arguments": '{"input": 5}'}
    assert first == {"role": "tool", "tool_call_id": "call_0", "content": "done"}
    assert second["content"] == "6"
    listed = [item async for item in await sdk.responses.input_items.list(by_id.id, order="asc")]
    assert [item.type for item in listed][2:] == [
        *("custom_tool_call", "function_call"),
        *("custom_tool_call_output", "function_call_output"),
    ]
    assert listed[4].id.startswith("ctco_")


async def test_in_a_namespace(client: Client, engine: FakeEngine) -> None:
    engine.script = say(call("files__patch", {"input": TEXT}))
    space = {"type": "namespace", "name": "files", "description": "Files", "tools": [ADD, PATCH]}
    response = await create(client, tools=[space])
    [item] = response["output"]
    assert (item["namespace"], item["name"], item["input"]) == ("files", "patch", TEXT)
    [shown] = response["tools"]
    assert [tool["type"] for tool in shown["tools"]] == ["function", "custom"]
    await create(client, tools=[space], input=[USER, item])
    [again] = client.services.prompts.asks[1].messages[1]["tool_calls"]
    assert again["function"]["name"] == "files__patch"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].name"),
        ({"tools": [{**PATCH, "format": {"type": "grammar", "grammar": FORMAT}}]}, "tools[0].format"),
        ({"tools": [ADD, PATCH, {"type": "function", "name": "patch"}]}, "tools[2].name"),
        ({"tool_choice": {"type": "custom", "name": "put"}}, "tool_choice"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"input": [USER, {"type": "custom_tool_call", "call_id": "c", "name": "patch"}]}, "input[1]"),
        ({"input": [USER, {"type": "custom_tool_call_output", "call_id": "c"}]}, "input[1]"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, fields: dict[str, Any], param: str) -> None:
    reply = await client.post(PATH, {"input": "hi", "tools": [ADD, PATCH], **fields})
    assert (reply.status, reply.error["param"]) == (400, param)
