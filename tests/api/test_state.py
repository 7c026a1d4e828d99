"""What the server tells about itself, and the small text routes."""

import re

import attrs
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from engine.text.events import FinishReason
from engine.text.info import EngineStats, SlotState
from llamabox.chat.formats.base import Tool
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import BOS, FakeEngine, say

IDLE = SlotState(
    id=0, request_id=None, n_ctx=128, n_past=0, n_prompt=0, n_cached=0, n_decoded=0, n_remain=None, is_prefilling=False
)
BUSY = SlotState(
    id=1, request_id="r", n_ctx=128, n_past=9, n_prompt=5, n_cached=2, n_decoded=4, n_remain=6, is_prefilling=False
)


async def test_health(client: Client) -> None:
    for path in ("/health", "/v1/health"):
        assert (await client.get(path)).json == {"status": "ok"}


async def test_models() -> None:
    client = Client(make_services(aliases=("a", "b")))
    for path in ("/v1/models", "/models"):
        body = (await client.get(path)).json
        assert body["object"] == "list"
        assert [entry["id"] for entry in body["data"]] == ["a", "b"]
        entry = body["data"][0]
        assert (entry["object"], entry["owned_by"]) == ("model", "llama-box")
        assert entry["created"] > 1_700_000_000
        meta = entry["meta"]
        assert (meta["n_vocab"], meta["n_ctx"], meta["n_slot"], meta["n_slot_ctx"]) == (258, 256, 2, 128)
        assert meta["ctx_shift"] is True
        assert meta["support_tool_calls"] is True
        assert meta["support_reasoning"] is True
        assert meta["temperature"] == 0.8


async def test_one_model() -> None:
    client = Client(make_services(aliases=("a", "team/b:Q4")))
    listed = (await client.get("/v1/models")).json["data"]
    for path in ("/v1/models", "/models"):
        assert [(await client.get(f"{path}/{entry['id']}")).json for entry in listed] == listed
        reply = await client.get(f"{path}/c")
        assert (reply.status, reply.json["error"]["param"]) == (404, "model")
        assert "'c'" in reply.json["error"]["message"]


async def test_props(client: Client) -> None:
    body = (await client.get("/props")).json
    settings = body.pop("default_generation_settings")
    assert settings["n_ctx"] == 128
    assert (settings["params"]["temperature"], settings["params"]["n_predict"]) == (0.8, -1)
    assert body == {
        "total_slots": 2,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "build_info": "llama-box-0.1.0",
        "model_path": "/models/tiny.gguf",
        "model_alias": "tiny.gguf",
        "chat_template": "the template",
        "modalities": {"vision": False, "audio": False},
        "media_marker": "<__media__>",
        "is_sleeping": False,
        "kv_unified": True,
    }


async def test_slots(client: Client, engine: FakeEngine) -> None:
    engine.slot_states = (IDLE, BUSY)
    idle, busy = (await client.get("/slots")).json
    assert (idle["id"], idle["id_task"], idle["state"], idle["is_processing"]) == (0, -1, 0, False)
    assert idle["next_token"]["n_remain"] == -1
    assert busy["id_task"] == "r"
    assert (busy["state"], busy["is_processing"], busy["n_past"]) == (1, True, 9)
    assert (busy["n_prompt_tokens"], busy["n_prompt_tokens_cache"]) == (5, 2)
    assert (busy["next_token"]["n_decoded"], busy["next_token"]["n_remain"]) == (4, 6)


async def test_a_busy_slot_tells_its_settings(client: Client, engine: FakeEngine) -> None:
    gate = trio.Event()
    engine.script = lambda request: [gate, *say("x")(request)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/completion", {"prompt": "hi", "n_predict": 17})
        await engine.opened_event.wait()
        await trio.testing.wait_all_tasks_blocked()
        engine.slot_states = (attrs.evolve(BUSY, request_id=engine.opened[0].id),)
        (slot,) = (await client.get("/slots")).json
        gate.set()
    assert slot["params"]["n_predict"] == 17
    assert len(client.services.running) == 0, "what has ended is forgotten"


async def test_an_idle_slot_tells_what_ended_its_last_generation(client: Client, engine: FakeEngine) -> None:
    engine.slot_states = (IDLE, attrs.evolve(IDLE, id=1))  # the fake engine runs everything on slot 1

    async def words() -> list[str]:
        return [slot["next_token"]["stopping_word"] for slot in (await client.get("/slots")).json]

    assert await words() == ["", ""]
    engine.script = say("a", reason=FinishReason.WORD, stopping_word="END")
    await client.post("/completion", {"prompt": "hi", "stop": ["END"]})
    assert await words() == ["", "END"]
    engine.slot_states = (IDLE, BUSY)
    assert await words() == ["", ""]
    engine.slot_states = (IDLE, attrs.evolve(IDLE, id=1))
    engine.script = say("a")
    await client.post("/completion", {"prompt": "hi"})
    assert await words() == ["", ""]


@pytest.mark.parametrize(("query", "states", "status"), [
    ("", (BUSY,), 200),
    ("?fail_on_no_slot=1", (BUSY,), 503),
    ("?fail_on_no_slot=0", (BUSY,), 200),
    ("?fail_on_no_slot=1", (BUSY, IDLE), 200),
])  # fmt: skip
async def test_fail_on_no_slot(client: Client, engine: FakeEngine, query: str, states: object, status: int) -> None:
    engine.slot_states = states
    assert (await client.get("/slots" + query)).status == status


async def test_switched_off() -> None:
    client = Client(make_services())
    for path, flag in (("/slots", "--slots"), ("/metrics", "--metrics")):
        reply = await client.get(path)
        assert reply.status == 501
        assert flag in reply.error["message"]


async def test_metrics(client: Client, engine: FakeEngine) -> None:
    engine.totals = EngineStats(
        prompt_tokens_total=100,
        prompt_cached_tokens_total=30,
        prompt_seconds_total=2.0,
        tokens_predicted_total=60,
        tokens_predicted_seconds_total=3.0,
        decode_total=40,
        busy_slots_total=50,
        kv_cells=256,
        kv_cells_used=128,
        kv_cells_active=64,
        requests_processing=2,
        requests_deferred=1,
        preemptions_total=3,
        host_bytes=5000,
        host_tokens=50,
        host_saved_total=70,
        host_restored_total=20,
        host_lost_total=4,
        host_save_seconds_total=0.5,
        host_restore_seconds_total=0.25,
    )
    await client.post("/v1/completions", {"prompt": "hi"})
    await client.post("/v1/completions", b"{")
    reply = await client.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }
    expected = {
        "prompt_tokens_total": 100,
        "prompt_cached_tokens_total": 30,
        "prompt_seconds_total": 2,
        "tokens_predicted_total": 60,
        "tokens_predicted_seconds_total": 3,
        "tokens_drafted_total": 0,
        "tokens_drafted_accepted_total": 0,
        "n_decode_total": 40,
        "n_busy_slots_per_decode": 1.25,
        "prompt_tokens_seconds": 50,
        "predicted_tokens_seconds": 20,
        "kv_cache_usage_ratio": 0.25,
        "kv_cache_tokens": 64,
        "kv_cache_reusable_tokens": 64,
        "preemptions_total": 3,
        "host_cache_bytes": 5000,
        "host_cache_tokens": 50,
        "host_cache_saved_tokens_total": 70,
        "host_cache_restored_tokens_total": 20,
        "host_cache_lost_tokens_total": 4,
        "host_cache_save_seconds_total": 0.5,
        "host_cache_restore_seconds_total": 0.25,
        "requests_processing": 2,
        "requests_deferred": 1,
        "image_process_seconds_total": 0,
        "image_generate_seconds_total": 0,
        "image_generate_steps_total": 0,
        "image_steps_seconds": 0,
        "time_to_first_token_seconds_count": 1,
        "time_to_first_token_seconds_sum": 0.025,
        "time_per_output_token_seconds_count": 1,
    }
    assert {name: samples[(f"llamabox:{name}",)] for name in expected} == expected
    assert samples[("llamabox:http_requests_total", "/v1/completions", "200")] == 1
    assert samples[("llamabox:http_requests_total", "/v1/completions", "400")] == 1
    assert samples[("llamabox:request_duration_seconds_count", "/v1/completions", "200")] == 1
    assert any(name == "llamabox:build_info" for name, *_ in samples)
    assert any(name == "process_resident_memory_bytes" for name, *_ in samples)
    assert re.search(r"^# TYPE llamabox:prompt_tokens_total counter$", reply.body.decode(), re.MULTILINE)


async def test_a_path_is_no_label(client: Client) -> None:
    await client.get("/some/scan")
    assert b'route="unmatched",status="404"' in (await client.get("/metrics")).body


async def test_tokenize(client: Client) -> None:
    async def tokens(**fields: object) -> object:
        return (await client.post("/tokenize", fields)).json["tokens"]

    assert await tokens(content="hé") == [104, 195, 169]
    assert await tokens(content="h", add_special=True) == [BOS, 104]
    assert await tokens(content=["h", 7, "i"], add_special=True) == [BOS, 104, 7, 105]
    assert await tokens(content="") == []
    with_pieces = await tokens(content="hé", with_pieces=True)
    assert with_pieces == [{"id": 104, "piece": "h"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]


async def test_detokenize(client: Client) -> None:
    async def content(tokens: list[int]) -> str:
        return (await client.post("/detokenize", {"tokens": tokens})).json["content"]

    assert await content([BOS, 104, 195, 169]) == "<s>hé"
    assert await content([195]) == "\ufffd"
    assert await content([]) == ""
    assert await content([120] * 2000) == "x" * 2000


@pytest.mark.parametrize("tokens", [[258], [-1], ["x"], [1.5], [10**20], None, [True]])
async def test_detokenize_refuses(client: Client, tokens: object) -> None:
    reply = await client.post("/detokenize", {"tokens": tokens})
    assert reply.status == 400
    assert reply.error["param"].startswith("tokens")


async def test_tokenize_refuses(client: Client) -> None:
    for content in ([258], [None], 5, None):
        assert (await client.post("/tokenize", {"content": content})).error["param"] == "content"


async def test_apply_template(client: Client) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]
    body = {"messages": messages, "chat_template_kwargs": {"thinking": False}, "continue_final_message": True}
    assert (await client.post("/apply-template", body)).json == {"prompt": "user: hi\nassistant: so"}
    (ask,) = client.services.prompts.asks
    assert (ask.add_generation_prompt, ask.continue_final_message) == (False, True)
    assert ask.variables == {"thinking": False}
    tools = [{"type": "function", "function": {"name": "get"}}]
    assert (await client.post("/apply-template", {**body, "tools": tools})).status == 200
    assert client.services.prompts.asks[-1].tools == (Tool(name="get"),)
    assert (await client.post("/apply-template", {**body, "tools": [{}]})).error["param"] == "tools[0].type"
