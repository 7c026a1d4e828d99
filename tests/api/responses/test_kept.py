"""Responses that are kept: read, deleted, and gone on from."""

import logging
from typing import Any

import pytest
import trio
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from trio.testing import wait_all_tasks_blocked

from engine.errors import EngineUnavailable
from engine.text.events import Failed, FinishReason, Timings, Tokens
from llamabox.response_store import ResponseStore
from tests.api.asgi import exchange
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine, say, steps
from tests.api.responses.play import CALLS, MORE_CALLS, OUTPUTS
from tests.api.test_openapi import check_reply

PATH = "/v1/responses"
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}
NOW = {"type": "function", "name": "now", "parameters": {"type": "object"}}
HI = {"role": "user", "content": "hi"}
STREAMED = b'{"input": "hi", "stream": true}'
SAID = Tokens(text="Hel", tokens=(1,), slot=0, timings=Timings(predicted_n=1))


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    reply = await client.post(PATH, {"input": "hi", **fields})
    assert reply.status == 200, reply.body
    return reply.json


async def make(sdk: AsyncOpenAI, streamed: bool, **fields: Any) -> Any:
    """The response object, of the terminal event where it is streamed."""
    if not streamed:
        return await sdk.responses.create(model="tiny", **fields)
    stream = await sdk.responses.create(model="tiny", stream=True, **fields)
    events = [event async for event in stream]
    return events[-1].response


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on(sdk: AsyncOpenAI, client: Client, stream: bool) -> None:
    async def ask(text: str, **fields: Any) -> Any:
        return await make(sdk, stream, input=text, **fields)

    first = await ask("one", instructions="be brief")
    assert (first.previous_response_id, first.store) == (None, True)
    second = await ask("two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    await ask("three", previous_response_id=second.id, instructions="be long")
    said = {"role": "assistant", "content": "Hello world"}
    turns = [{"role": "user", "content": "one"}, said, {"role": "user", "content": "two"}]
    assert client.services.prompts.asks[1].messages == turns
    system, last = {"role": "system", "content": "be long"}, {"role": "user", "content": "three"}
    assert client.services.prompts.asks[2].messages == [system, *turns, said, last]


async def test_it_goes_on_from_any_response(client: Client) -> None:
    first = await create(client, input="one")
    for text in ("two", "three"):
        await create(client, input=text, previous_response_id=first["id"])
    asked = [[m["content"] for m in ask.messages] for ask in client.services.prompts.asks[1:]]
    assert asked == [["one", "Hello world", "two"], ["one", "Hello world", "three"]]


@pytest.mark.parametrize("name", OUTPUTS)
async def test_by_id_is_as_by_sending_all(client: Client, engine: FakeEngine, name: str) -> None:
    output = OUTPUTS[name]
    engine.script = say(output.text, reason=output.reason, stopping_word=output.stopping_word)
    given = [HI, {"role": "assistant", "content": "ho"}, {"type": "message", "role": "user", "content": "so"}]
    tools = {"tools": [ADD, NOW]}
    first = await create(client, input=given, **tools)
    await create(client, input="go on", previous_response_id=first["id"], **tools)
    await create(client, input=[*given, *first["output"], {"role": "user", "content": "go on"}], **tools)
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    last = await create(client, input=[*given, *references, {"role": "user", "content": "go on"}], **tools)
    by_id, by_sending, by_references = client.services.prompts.asks[1:]
    assert by_id == by_sending == by_references
    await client.send("DELETE", f"{PATH}/{first['id']}")
    await create(client, input="and on", previous_response_id=last["id"], **tools)
    assert client.services.prompts.asks[-1].messages[: len(by_id.messages)] == by_id.messages


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
async def test_what_is_not_kept_cannot_be_referred_to(client: Client, reference: dict[str, str]) -> None:
    reply = await client.post(PATH, {"input": [HI, reference]})
    assert (reply.status, reply.error["param"]) == (404, "input[1]")
    assert "Item with id 'msg_1' not found" in reply.error["message"]
    for fields in ({"store": False}, {}):
        made = await create(client, **fields)
        if not fields:
            await client.send("DELETE", f"{PATH}/{made['id']}")
        again = {**reference, "id": made["output"][0]["id"]}
        assert (await client.post(PATH, {"input": [again]})).status == 404


async def test_a_reference_has_an_id(client: Client) -> None:
    reply = await client.post(PATH, {"input": [{"type": "item_reference", "id": 1}]})
    assert (reply.status, reply.error["param"]) == (400, "input[0].id")


async def test_the_results_of_calls_go_on_by_id(sdk: AsyncOpenAI, client: Client, engine: FakeEngine) -> None:
    engine.script = say(f"<think>\nhm</think>\n\n{MORE_CALLS.replace('add', 'sums__add')}")
    tools = [{"type": "namespace", "name": "sums", "description": "Sums", "tools": [ADD]}, NOW]
    asked: dict[str, Any] = {"model": "tiny", "tools": tools, "include": ["reasoning.encrypted_content"]}
    first = await sdk.responses.create(input="hi", **asked)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "3"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = await sdk.responses.create(input=outputs, previous_response_id=first.id, **asked)
    user, assistant, *results = client.services.prompts.asks[1].messages
    assert user == HI
    assert assistant["reasoning_content"] == "hm"
    assert [call["function"]["name"] for call in assistant["tool_calls"]] == ["sums__add", "now"]
    assert [result["tool_call_id"] for result in results] == [call["id"] for call in assistant["tool_calls"]]
    listed = [item async for item in await sdk.responses.input_items.list(second.id, order="asc")]
    assert [item.type for item in listed] == [
        "message",
        "reasoning",
        *("function_call", "function_call"),
        *("function_call_output", "function_call_output"),
    ]


async def test_a_cut_answer_goes_on_without_input(client: Client, engine: FakeEngine) -> None:
    engine.script = say("Hel", reason=FinishReason.LIMIT)
    first = await create(client)
    assert first["status"] == "incomplete"
    await create(client, input=[], previous_response_id=first["id"])
    ask = client.services.prompts.asks[1]
    assert ask.messages == [HI, {"role": "assistant", "content": "Hel"}]
    assert ask.continue_final_message


async def test_what_does_not_exist_is_not_gone_on_from(sdk: AsyncOpenAI, client: Client) -> None:
    unkept = await sdk.responses.create(model="tiny", input="hi", store=False)
    assert unkept.store is False
    for response_id in ("resp_1", unkept.id):
        with pytest.raises(BadRequestError) as caught:
            await sdk.responses.create(model="tiny", input="hi", previous_response_id=response_id)
        assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")
        assert caught.value.body["message"] == f"Previous response with id '{response_id}' not found."
        with pytest.raises(NotFoundError):
            await sdk.responses.retrieve(response_id)
    reply = await client.post(PATH, {"input": "hi", "previous_response_id": "resp_1"})
    check_reply("POST", PATH, reply.json, status="default")


async def test_what_is_not_kept_can_go_on(client: Client) -> None:
    first = await create(client, input="one")
    second = await create(client, input="two", store=False, previous_response_id=first["id"])
    assert (second["store"], second["previous_response_id"]) == (False, first["id"])
    assert [message["content"] for message in client.services.prompts.asks[1].messages] == ["one", "Hello world", "two"]
    assert len(client.services.responses) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_there_until_it_is_deleted(
    sdk: AsyncOpenAI, client: Client, engine: FakeEngine, stream: bool
) -> None:
    engine.script = say("<think>\nhm</think>\n\n", CALLS)
    fields: dict[str, Any] = {"tools": [ADD], "metadata": {"k": "v"}, "top_logprobs": 1}
    made = await make(sdk, stream, input="hi", **fields)
    assert await sdk.responses.retrieve(made.id) == made
    path = f"{PATH}/{made.id}"
    check_reply("GET", f"{PATH}/{{response_id}}", (await client.get(path)).json)
    await sdk.responses.delete(made.id)
    for gone in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.input_items.list):
        with pytest.raises(NotFoundError) as caught:
            await gone(made.id)
        assert caught.value.body["message"] == f"Response with id '{made.id}' not found."
        assert caught.value.body["type"] == "invalid_request_error"


async def test_one_that_goes_on_outlives_those_before(client: Client) -> None:
    first = await create(client, input="one")
    second = await create(client, input="two", previous_response_id=first["id"])
    reply = await client.send("DELETE", f"{PATH}/{first['id']}")
    assert reply.json == {"id": first["id"], "object": "response", "deleted": True}
    check_reply("DELETE", f"{PATH}/{{response_id}}", reply.json)
    await create(client, input="three", previous_response_id=second["id"])
    assert len(client.services.prompts.asks[2].messages) == 5


async def test_those_that_are_not_used_make_room(client: Client) -> None:
    client.services.responses = ResponseStore(max_responses=2)
    first, second = await create(client), await create(client)
    await client.get(f"{PATH}/{first['id']}")
    third = await create(client)
    found = [(await client.get(f"{PATH}/{made['id']}")).status for made in (first, second, third)]
    assert found == [200, 404, 200]


async def test_what_is_too_large_is_answered_but_not_kept(client: Client) -> None:
    client.services.responses = ResponseStore(max_bytes=4000)
    large, small = await create(client, input="x" * 4000), await create(client)
    found = [(await client.get(f"{PATH}/{made['id']}")).status for made in (large, small)]
    assert found == [404, 200]


async def test_a_stream_that_fails_is_not_kept(client: Client, engine: FakeEngine) -> None:
    gate = trio.Event()
    engine.script = steps(SAID, gate, Failed(error=EngineUnavailable("gone")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, client.app, "POST", PATH, STREAMED)
        await wait_all_tasks_blocked()
        gate.set()
    assert len(engine.closed) == 1
    assert len(client.services.responses) == 0


async def test_a_stream_that_is_left_is_not_kept(client: Client, engine: FakeEngine) -> None:
    engine.script = steps(SAID, trio.Event())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, client.app, "POST", PATH, STREAMED)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(engine.closed) == 1
    assert len(client.services.responses) == 0


async def test_input_items(sdk: AsyncOpenAI, client: Client) -> None:
    parts = [{"type": "input_text", "text": "b"}]
    own = {"type": "message", "role": "assistant", "content": "c", "id": "msg_own", "status": "incomplete"}
    first = await sdk.responses.create(model="tiny", input="a", instructions="be brief")
    second = await sdk.responses.create(
        model="tiny", input=[{"role": "user", "content": parts}, own, HI], previous_response_id=first.id
    )
    items = [item async for item in await sdk.responses.input_items.list(second.id, order="asc", limit=2)]
    assert [item.content[0].text for item in items] == ["a", "Hello world", "b", "c", "hi"]
    assert [item.content[0].type for item in items] == [
        *("input_text", "output_text", "input_text", "output_text", "input_text")
    ]
    assert [item.role for item in items] == ["user", "assistant", "user", "assistant", "user"]
    assert len({item.id for item in items}) == 5
    assert all(item.id.startswith("msg_") and item.type == "message" for item in items)
    assert (items[1].id, items[3].id, items[3].status) == (first.output[0].id, "msg_own", "incomplete")
    latest = await sdk.responses.input_items.list(second.id, limit=1)
    assert (latest.data, latest.has_more) == (items[-1:], True)
    assert (latest.first_id, latest.last_id) == (items[-1].id, items[-1].id)
    before = await sdk.responses.input_items.list(second.id, after=items[2].id)
    assert (before.data, before.has_more) == (items[1::-1], False)
    path = f"{PATH}/{{response_id}}/input_items"
    for query in ("", f"?after={items[0].id}"):
        check_reply("GET", path, (await client.get(f"{PATH}/{second.id}/input_items{query}")).json)


async def test_a_list_with_equal_ids_comes_to_its_end(client: Client) -> None:
    made = await create(client, input=[{**HI, "id": name} for name in ("a", "b", "a", "c")])
    page = (await client.get(f"{PATH}/{made['id']}/input_items?order=asc&after=a")).json
    assert [item["id"] for item in page["data"]] == ["c"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("/input_items?limit=0", "limit"),
        ("/input_items?limit=101", "limit"),
        ("/input_items?limit=many", "limit"),
        ("/input_items?order=sideways", "order"),
        ("/input_items?after=msg_1", "after"),
        ("?stream=true", "stream"),
        ("?stream=perhaps", "stream"),
    ],
)
async def test_wrong_queries(client: Client, query: str, param: str) -> None:
    made = await create(client)
    reply = await client.get(f"{PATH}/{made['id']}{query}")
    assert (reply.status, reply.error["param"]) == (400, param)


async def test_queries_that_ask_for_nothing_more(client: Client) -> None:
    made = await create(client)
    reply = await client.get(f"{PATH}/{made['id']}?stream=false&include[]=message.output_text.logprobs")
    assert reply.json == made


async def test_nothing_is_cancelled(sdk: AsyncOpenAI, client: Client) -> None:
    made = await create(client)
    with pytest.raises(BadRequestError, match="background"):
        await sdk.responses.cancel(made["id"])
    with pytest.raises(NotFoundError):
        await sdk.responses.cancel("resp_1")
    assert (await client.post(f"/responses/{made['id']}/cancel", None)).status == 400


async def test_the_shorter_paths(client: Client) -> None:
    made = await create(client)
    path = f"/responses/{made['id']}"
    assert (await client.get(path)).json == made
    [item] = (await client.get(f"{path}/input_items")).json["data"]
    assert item["content"] == [{"type": "input_text", "text": "hi"}]
    assert (await client.send("DELETE", path)).json["deleted"] is True
    assert (await client.get(path)).status == 404


async def test_ids_are_no_ids_of_requests(client: Client, engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    """Clients choose those, /slots and the log show them."""
    caplog.set_level(logging.INFO)
    made = [(await client.post(PATH, {"input": "hi"}, {"X-Request-ID": "resp_mine"})).json["id"] for _ in range(2)]
    assert len(set(made)) == 2
    shown = " ".join([*(request.id for request in engine.opened), caplog.text])
    assert "resp-" in shown
    assert not any(response_id.removeprefix("resp_") in shown for response_id in made)


async def test_a_key_is_wanted() -> None:
    client = Client(make_services(api_keys=("one", "two")))
    made = (await client.post(PATH, {"input": "hi"}, {"Authorization": "Bearer one"})).json
    for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
        assert (await client.send(method, f"{PATH}/{made['id']}{path}")).status == 401
    reply = await client.get(f"{PATH}/{made['id']}", Authorization="Bearer two")
    assert reply.json == made
