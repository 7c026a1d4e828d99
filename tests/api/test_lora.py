"""LoRA adapters: the routes, the field, and what a request is computed with."""

from typing import Any

import pytest
import trio
import trio.testing

from engine.native.options import AdapterOptions, ModelOptions, Scaled
from engine.text.options import EngineOptions
from llamabox.metrics import Metrics
from llamabox.services import Phase, Services
from llamabox.settings import Settings
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, make_info, say
from tests.api.fake_prompts import FakePrompts

FILES = (Scaled("/loras/a.gguf", 0.1), Scaled("/loras/b.gguf"), Scaled("/loras/c.gguf", 0.0))
ROUTES = {
    "/completion": {"prompt": "hi"},
    "/v1/completions": {"prompt": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
}


def served(*, apply_loras: bool = True) -> tuple[Client, FakeEngine]:
    engine = FakeEngine(info=make_info(loras=tuple(file.path for file in FILES)))
    options = EngineOptions(
        model=ModelOptions(path="/models/tiny.gguf"), adapters=AdapterOptions(loras=FILES, apply_loras=apply_loras)
    )
    services = Services(settings=Settings(engine=options), metrics=Metrics(engine.stats), model_ids=("tiny",))
    services.text, services.prompts = engine, FakePrompts()
    services.enter(Phase.READY)
    return Client(services), engine


def plain(engine: FakeEngine) -> list[tuple[tuple[int, float], ...]]:
    """The sets that the engine was asked to compute with, scales as people write them."""
    return [tuple((i, round(scale, 6)) for i, scale in request.adapters) for request in engine.opened]


async def test_the_list_has_the_scales_of_the_flags() -> None:
    client, _ = served()
    assert (await client.get("/lora-adapters")).json == [
        {"id": 0, "path": "/loras/a.gguf", "scale": 0.1},
        {"id": 1, "path": "/loras/b.gguf", "scale": 1.0},
        {"id": 2, "path": "/loras/c.gguf", "scale": 0.0},
    ]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_request_uses_what_it_lists_else_what_the_server_has(path: str) -> None:
    client, engine = served()
    for lora in (
        None,
        [],
        [{"id": 2, "scale": 0.5}],
        [{"id": 1, "scale": 0}],
        [{"id": 1, "scale": -1}, {"id": 0, "scale": 2}],
    ):
        assert (await client.post(path, {**ROUTES[path], "lora": lora})).status == 200
    everybody = ((0, 0.1), (1, 1.0))
    assert plain(engine) == [everybody, everybody, ((2, 0.5),), (), ((0, 2.0), (1, -1.0))]


@pytest.mark.parametrize(
    ("lora", "param", "words"),
    [
        ([{"id": 3, "scale": 1}], "lora", "there is no adapter 3, there are 0 to 2"),
        ([{"id": 0, "scale": 1}, {"id": 0, "scale": 2}], "lora", "twice"),
        ([{"id": -1, "scale": 1}], "lora[0].id", ">= 0"),
        ([{"id": 0, "scale": 1e9}], "lora[0].scale", "<= 1000"),
        ([{"id": 0}], "lora[0].scale", "missing"),
        ([{"id": "0", "scale": 1}], "lora[0].id", "int"),
        ({"id": 0, "scale": 1}, "lora", "array"),
    ],
)
async def test_what_is_wrong_with_the_field_is_said(lora: Any, param: str, words: str) -> None:
    client, engine = served()
    reply = await client.post("/completion", {"prompt": "hi", "lora": lora})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert words in reply.error["message"]
    assert engine.opened == []


async def test_without_adapters_the_field_names_the_flag(client: Client, engine: FakeEngine) -> None:
    reply = await client.post("/completion", {"prompt": "hi", "lora": [{"id": 0, "scale": 1}]})
    assert (reply.status, reply.error["param"]) == (400, "lora")
    assert "--lora" in reply.error["message"]


async def test_scales_change_for_requests_to_come_and_omitted_ones_are_zero() -> None:
    client, engine = served(apply_loras=False)
    assert [entry["scale"] for entry in (await client.get("/lora-adapters")).json] == [0, 0, 0]
    gate = trio.Event()
    engine.script = lambda request: [gate, *say("x")(request)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/completion", {"prompt": "before"})
        await trio.testing.wait_all_tasks_blocked()
        reply = await client.post("/lora-adapters", [{"id": 1, "scale": 0.3}])
        assert (reply.status, reply.json) == (200, {"success": True})
        gate.set()
    await client.post("/completion", {"prompt": "after"})
    assert plain(engine) == [(), ((1, 0.3),)], "what runs keeps its own"
    assert [entry["scale"] for entry in (await client.get("/lora-adapters")).json] == [0, 0.3, 0]
    await client.post("/lora-adapters", [])
    assert client.services.adapters == ()


async def test_a_wrong_change_changes_nothing() -> None:
    client, _ = served(apply_loras=False)
    await client.post("/lora-adapters", [{"id": 1, "scale": 0.5}])
    for body in (
        [{"id": 0, "scale": 1}, {"id": 3, "scale": 1}],
        {"id": 0, "scale": 1},
        [{"id": 0}],
        b"[",
        [{"scale": 1}],
    ):
        assert (await client.post("/lora-adapters", body)).status == 400
    assert client.services.adapters == ((1, 0.5),)


async def test_scales_that_are_fixed_cannot_be_changed() -> None:
    client, _ = served()
    reply = await client.post("/lora-adapters", [{"id": 1, "scale": 0.5}])
    assert reply.status == 501
    assert "--lora-init-without-apply" in reply.error["message"]


async def test_settings_show_the_adapters_in_use() -> None:
    client, _ = served()
    props = (await client.get("/props")).json
    assert props["default_generation_settings"]["params"]["lora"] == [{"id": 0, "scale": 0.1}, {"id": 1, "scale": 1.0}]
    reply = (await client.post("/completion", {"prompt": "hi", "lora": [{"id": 2, "scale": 0.7}]})).json
    assert reply["generation_settings"]["lora"] == [{"id": 2, "scale": 0.7}]


async def test_choices_of_one_request_share_its_adapters() -> None:
    client, engine = served()
    body = {"messages": [{"role": "user", "content": "hi"}], "n": 3, "lora": [{"id": 2, "scale": 1}]}
    await client.post("/v1/chat/completions", body)
    assert plain(engine) == [((2, 1.0),)] * 3
    assert len({request.id for request in engine.opened}) == 3


def test_services_start_with_the_flags_scales() -> None:
    client, _ = served()
    assert [adapter for adapter, _ in client.services.adapters] == [0, 1]
