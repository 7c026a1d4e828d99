"""What /props and /slots say where there is an image model, alone or beside a text model."""

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from llamabox.settings import ImageSettings
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine
from tests.api.images.pictures import GENERATIONS
from tests.api.images.serving import BODY, serving
from tests.api.test_state import BUSY, IDLE
from tests.images.fake_backend import INFO, FakeImageBackend


def without_text(client: Client) -> Client:
    client.services.text = client.services.prompts = None
    return client


async def text_only(path: str) -> Any:
    return (await Client(make_services(slots=True)).get(path)).json


async def test_props_of_images_alone() -> None:
    async with serving() as client:
        images = ImageSettings(steps=9)
        client.services.settings = attrs.evolve(client.services.settings, images=images)
        body = (await without_text(client).get("/props")).json
        (model,) = (await client.get("/v1/models")).json["data"]
    told = body["images"]
    assert told["default_generation_settings"] == model["meta"]
    assert told["default_generation_settings"]["sampling_steps"] == 9
    assert body["default_generation_settings"] == {"n_ctx": 0, "params": model["meta"]}
    assert (body["total_slots"], body["model_path"], body["model_alias"]) == (1, INFO.path, "flux")
    assert (told["model_path"], told["model_alias"], told["total_slots"]) == (INFO.path, "flux", 1)
    assert told["loras"] == [{"id": 0, "path": "a.safetensors"}, {"id": 1, "path": "b.safetensors"}]
    assert (told["control_net"], told["upscale_factor"]) == (True, 2)
    assert body.keys() - {"images"} == (await text_only("/props")).keys(), "readers of text find what they look for"


async def test_props_of_both_are_those_of_text_and_one_field_more() -> None:
    async with serving() as client:
        body = (await client.get("/props")).json
        alone = (await without_text(client).get("/props")).json
    assert body.pop("images") == alone["images"]
    assert body == await text_only("/props")


async def test_a_running_image_is_shown_with_its_progress_and_the_queue_behind_it() -> None:
    backend, reached, go = FakeImageBackend(), trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def hold(step: int) -> None:
        if step == 3 and len(backend.made) == 2:
            trio.from_thread.run_sync(reached.set, trio_token=token)
            trio.from_thread.run(go.wait, trio_token=token)

    backend.before_step = hold
    async with serving(backend, slots=True) as client:
        without_text(client)
        (idle,) = (await client.get("/slots")).json
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, GENERATIONS, BODY | {"n": 2, "sample_steps": 4})
            await reached.wait()
            for _ in range(2):
                nursery.start_soon(client.post, GENERATIONS, BODY)
            await trio.testing.wait_all_tasks_blocked()
            (busy,) = (await client.get("/slots")).json
            assert (await client.get("/slots?fail_on_no_slot=1")).status == 503
            metrics = (await client.get("/metrics")).body
            go.set()
        assert (await client.get("/slots")).json == [idle]
        assert (await client.get("/slots?fail_on_no_slot=1")).status == 200
    assert b"llamabox:requests_deferred 2.0" in metrics
    assert (idle["id"], idle["id_task"], idle["state"], idle["is_processing"]) == (0, -1, 0, False)
    assert (idle["image"], idle["params"], idle["requests_deferred"]) == (None, {}, 0)
    assert idle.keys() == busy.keys()
    assert (busy["id"], busy["state"], busy["is_processing"], busy["requests_deferred"]) == (0, 1, True, 2)
    assert busy["id_task"].startswith("img-")
    assert busy["image"] == {
        "index": 1, "n": 2, "progress": 50, "progressed_steps": 2, "steps": 4, "seed": 8, "width": 256, "height": 256,
    }  # fmt: skip
    settings = busy["params"]
    assert (settings["size"], settings["seed"], settings["sampling_steps"]) == ("256x256", 7, 4)
    assert (settings["sample_method"], settings["schedule_method"], settings["edit"]) == ("euler", "discrete", False)
    assert "a cat" not in str(busy), "prompts are nobody else's business"


@pytest.mark.parametrize(("query", "states", "status"), [
    ("", (BUSY,), 200),
    ("?fail_on_no_slot=1", (BUSY,), 503),
    ("?fail_on_no_slot=1", (IDLE, BUSY), 200),
])  # fmt: skip
async def test_slots_of_both_are_those_of_text_and_one_more(query: str, states: Any, status: int) -> None:
    """Whoever asks for an idle slot means one of text."""
    async with serving(slots=True) as client:
        engine = FakeEngine()
        engine.slot_states = states
        client.services.text = engine
        reply = await client.get(f"/slots{query}")
        assert reply.status == status
        if status != 200:
            return
        *text, image = reply.json
    alone = Client(make_services(engine, slots=True))
    assert text == (await alone.get("/slots")).json
    assert image["id"] == len(states)
    assert image.keys() > text[0].keys()
    assert {type(image[name]) for name in text[0]} <= {int, bool, dict}


async def test_slots_are_shown_only_where_they_are_wanted() -> None:
    async with serving() as client:
        reply = await without_text(client).get("/slots")
        assert (reply.status, "--slots" in reply.error["message"]) == (501, True)
