"""The images API: fields, answers, streams, refusals."""

import math
from typing import Any

import attrs
import pytest
import trio

from engine.errors import NativeError
from engine.image.families import kind_of
from engine.native.sd.image import LoraUse
from engine.native.sd.options import Preview, Sampler, Schedule
from llamabox.settings import ImageSettings
from tests.api.conftest import Client, make_services
from tests.api.images.pictures import EDITS, GENERATIONS, opened, png, stream_events, url
from tests.api.images.serving import BODY, serving
from tests.images.fake_backend import INFO, FakeImageBackend, picture


async def test_images_from_a_prompt() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, BODY | {"n": 2})
    assert reply.status == 200, reply.body
    body = reply.json
    assert {key: body[key] for key in ("model", "object")} == {"model": "flux", "object": "list"}
    assert [(item["index"], item["object"], item["progress"], item["finish_reason"]) for item in body["data"]] == [
        (0, "image", 100, "stop"),
        (1, "image", 100, "stop"),
    ]
    for item, made in zip(body["data"], backend.made, strict=True):
        image = opened(item["b64_json"])
        assert (image.format, image.tobytes()) == ("PNG", picture(made).data)
        assert image.info["parameters"].endswith(
            f"Steps: 3, CFG scale: 1, Guidance: 3.5, Seed: {made.seed}, Size: 256x256, Model: flux, Sampler: Euler"
        )
    assert [made.seed for made in backend.made] == [7, 8]
    assert body["usage"] == {
        "time_to_process_ms": 1000.0,
        "time_per_generation_ms": pytest.approx(4000 / 6, rel=0.01),
        "generation_per_second": pytest.approx(1.5, rel=0.01),
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"width": 1024, "height": 1024}),
        ({}, {"sampler": Sampler.EULER, "steps": 20, "cfg_scale": 1.0, "strength": 0.75}),
        ({"size": "256x320", "quality": "hd"}, {"width": 256, "height": 320, "steps": 22}),
        ({"size": "auto"}, {"width": 1024, "height": 1024}),
        ({"quality": "high"}, {"steps": 22}),
        ({"sampler": "EULER_A"}, {"sampler": Sampler.EULER_A}),
        ({"sample_method": "dpm++2m", "sampler": "euler"}, {"sampler": Sampler.DPMPP2M}),
        ({"sample_steps": 4, "scheduler": "karras"}, {"steps": 4, "schedule": Schedule.KARRAS}),
        ({"sampling_steps": 5, "schedule": "default"}, {"steps": 5, "schedule": Schedule.DEFAULT}),
        ({"schedule_method": "gits", "scheduler": "karras"}, {"schedule": Schedule.GITS}),
        ({"guidance": 2, "cfg_scale": 4.5, "strength": 0.1}, {"guidance": 2.0, "cfg_scale": 4.5, "strength": 0.1}),
        ({"slg_scale": 2, "slg_skip_layers": [1], "slg_start": 0, "slg_end": 1},
         {"slg_scale": 2.0, "slg_layers": (1,), "slg_start": 0.0, "slg_end": 1.0}),
        ({"negative_prompt": "a dog", "style": "vivid"}, {"negative_prompt": "a dog", "prompt": "a cat, vivid style"}),
        ({"prompt": "tag \U000e0041"}, {"prompt": "tag \ufffd"}),
        ({"lora": [{"id": 1, "scale": 0.5}, {"id": 0, "scale": 0}]},
         {"loras": (LoraUse(path="b.safetensors", scale=0.5),)}),
        ({"seed": None, "model": "whatever", "user": "me", "n": None}, {}),
        ({"background": "auto", "moderation": "low", "safety_identifier": "me", "output_compression": 100}, {}),
        ({"background": "opaque", "input_fidelity": "low", "svg": None, "image": None, "mask": ""}, {}),
    ],
)  # fmt: skip
async def test_fields_reach_the_engine(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, {"prompt": "a cat", "upscale_repeats": 0, "seed": 1} | fields)
    assert reply.status == 200, reply.body
    (made,) = backend.made
    assert {name: getattr(made, name) for name in expected} == expected


async def test_quality_auto_and_standard_are_as_if_it_were_absent() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        for quality in ("auto", "standard", None):
            assert (await client.post(GENERATIONS, BODY | {"quality": quality})).status == 200
    assert backend.made[0] == backend.made[1] == backend.made[2]


@pytest.mark.parametrize("quality", ["low", "medium", "best", ""])
async def test_a_quality_that_would_change_nothing_is_refused(quality: str) -> None:
    async with serving() as client:
        reply = await client.post(GENERATIONS, BODY | {"quality": quality})
    assert (reply.status, reply.error["param"]) == (400, "quality")
    message = f"quality: Invalid enum value {quality!r}, it must be one of standard, hd, high, auto"
    assert reply.error["message"] == message


async def test_of_several_names_a_request_must_name_one() -> None:
    async with serving() as client:
        client.services.image_ids = ("flux", "flux-large")
        assert (await client.post(GENERATIONS, BODY | {"model": "flux-large"})).json["model"] == "flux-large"
        reply = await client.post(GENERATIONS, BODY | {"model": "whatever"})
        assert (reply.status, reply.error["param"]) == (404, "model")


@pytest.mark.parametrize("seed", [None, -1])
async def test_without_a_seed_each_request_is_another(seed: int | None) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        for _ in range(2):
            await client.post(GENERATIONS, BODY | {"seed": seed})
    assert len({made.seed for made in backend.made}) == 2


async def test_the_servers_seed_is_for_those_that_name_none() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        client.services.settings = attrs.evolve(client.services.settings, images=ImageSettings(seed=5))
        for given in ({"seed": None}, {"seed": 6}, {"seed": -1}, {"seed": -1}):
            assert (await client.post(GENERATIONS, BODY | given)).status == 200
    seeds = [made.seed for made in backend.made]
    assert seeds[:2] == [5, 6]
    assert len({5, *seeds[2:]}) == 3


@pytest.mark.parametrize(("version", "side"), [("SD 1.x", 512), ("SDXL", 1024), ("of no known kind", 1024)])
@pytest.mark.parametrize("most", [1024, 640])
async def test_without_a_size_it_is_what_the_models_entry_says(version: str, side: int, most: int) -> None:
    info = attrs.evolve(INFO, version=version, kind=kind_of(version), max_width=most)
    backend = FakeImageBackend(info)
    async with serving(backend) as client:
        meta = (await client.get("/v1/models")).json["data"][-1]["meta"]
        body = {"prompt": "a cat", "sample_steps": 1, "upscale_repeats": 0}
        assert (await client.post(GENERATIONS, body)).status == 200
    (made,) = backend.made
    assert (meta["default_width"], meta["default_height"]) == (made.width, made.height) == (min(side, most), side)


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_output_formats(name: str, kind: str) -> None:
    async with serving() as client:
        reply = await client.post(GENERATIONS, BODY | {"output_format": name, "output_compression": 100})
    assert opened(reply.json["data"][0]["b64_json"]).format == kind


async def test_worse_compression_is_smaller() -> None:
    async with serving() as client:
        replies = [
            await client.post(GENERATIONS, BODY | {"output_format": "jpeg", "output_compression": quality})
            for quality in (5, None)
        ]
    small, usual = (reply.json["data"][0]["b64_json"] for reply in replies)
    assert len(small) < len(usual)


async def test_a_requests_field_wins_over_the_flag() -> None:
    backend = FakeImageBackend()
    flags = ImageSettings(
        sampler=Sampler.HEUN,
        schedule=Schedule.KARRAS,
        steps=9,
        cfg_scale=2.0,
        guidance=3.0,
        strength=0.5,
        slg_scale=1.0,
    )
    fields = {
        "sampler": "euler", "schedule": "discrete", "sample_steps": 3, "cfg_scale": 0, "guidance": 0, "strength": 0,
        "slg_scale": 0,
    }  # fmt: skip
    async with serving(backend) as client:
        client.services.settings = attrs.evolve(client.services.settings, images=flags)
        for given in ({}, fields):
            body = {"prompt": "a cat", "size": "256x256", "upscale_repeats": 0}
            assert (await client.post(GENERATIONS, body | given)).status == 200
    names = ("sampler", "schedule", "steps", "cfg_scale", "guidance", "strength", "slg_scale")
    assert [[getattr(made, name) for name in names] for made in backend.made] == [
        [Sampler.HEUN, Schedule.KARRAS, 9, 2.0, 3.0, 0.5, 1.0],
        [Sampler.EULER, Schedule.DISCRETE, 3, 0.0, 0.0, 0.0, 0.0],
    ]


async def test_with_an_upscaler_images_are_upscaled_unless_refused() -> None:
    async with serving() as client:
        fields = {key: value for key, value in BODY.items() if key != "upscale_repeats"}
        larger = await client.post(GENERATIONS, fields)
        assert opened(larger.json["data"][0]["b64_json"]).size == (512, 512)
        plain = await client.post(GENERATIONS, fields | {"upscale_repeats": 0})
        assert opened(plain.json["data"][0]["b64_json"]).size == (256, 256)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 8001}, "prompt"),
        ({"prompt": "(a:.)"}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"negative_prompt": "((a:1):..)"}, "negative_prompt"),
        *[({"size": size}, "size") for size in ("0x0", "-64x64", "256", "256x", "255x256", "64x64", "256x1088")],
        *[({"n": n}, "n") for n in (0, -1, 5, 1.5, "2")],
        *[({"seed": seed}, "seed") for seed in (-2, 2**63, 1.5)],
        ({"seed": 2**63 - 1, "n": 2}, "seed"),
        *[({"sample_steps": steps}, "sample_steps") for steps in (0, -1, 1001)],
        ({"sampling_steps": 0}, "sampling_steps"),
        *[({name: "nonsense"}, name) for name in ("sample_method", "sampler")],
        *[({name: "nonsense"}, name) for name in ("schedule_method", "scheduler", "schedule")],
        ({"schedule": "gits", "sample_steps": 1}, "schedule"),
        ({"schedule": "ays"}, "schedule"),
        *[({"strength": value}, "strength") for value in (-0.1, 1.1)],
        *[({"cfg_scale": value}, "cfg_scale") for value in (-1, 1e39)],
        ({"guidance": 1e39}, "guidance"),
        ({"slg_scale": -1}, "slg_scale"),
        ({"slg_skip_layers": [], "slg_scale": 1}, "slg_skip_layers"),
        ({"slg_start": 2}, "slg_start"),
        ({"lora": [{"id": 2, "scale": 1}]}, "lora"),
        ({"lora": [{"id": 0, "scale": 1e39}]}, "lora[0].scale"),
        ({"lora": [{"id": 0, "scale": 1}] * 2}, "lora"),
        ({"upscale_repeats": 9}, "upscale_repeats"),
        ({"upscale_repeats": 6}, "upscale_repeats"),
        ({"control_canny": True, "control_strength": -1}, "control_strength"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"output_compression": 99, "output_format": "png"}, "output_compression"),
        ({"background": "transparent"}, "background"),
        ({"background": "blue"}, "background"),
        ({"input_fidelity": "high"}, "input_fidelity"),
        ({"complexity": "low"}, "complexity"),
        ({"frame_count": 0}, "frame_count"),
        ({"frame_duration_ms": 200}, "frame_duration_ms"),
        ({"svg": {"model": "any"}}, "svg"),
        ({"markup": url(png())}, "markup"),
        *[({name: picture}, name) for name in ("image", "mask", "control") for picture in (url(png()), ["x"], 5)],
        ({"stream": True, "stream_options": {"chunk_size": 100}}, "stream_options.chunk_size"),
        *[({"stream": True, "partial_images": count}, "partial_images") for count in (-1, 4, 1.5)],
        ({"partial_images": 1}, "partial_images"),
        ({"stream": True, "partial_images": 1, "stream_options": {"chunk_result": True}}, "partial_images"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, BODY | fields)
        assert (reply.status, reply.error["param"]) == (400, param), reply.body
        assert backend.made == []
        assert (await client.post(GENERATIONS, BODY)).status == 200, "it goes on serving"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"prompt": NaN}', b'{"prompt":"a","cfg_scale":NaN}', b"\xff"])
async def test_bodies_that_are_none(text: bytes) -> None:
    async with serving() as client:
        assert (await client.send("POST", GENERATIONS, text)).status == 400
        assert (await client.send("POST", EDITS, text)).status == 400


async def test_an_image_that_came_to_nothing_is_an_error() -> None:
    backend = FakeImageBackend()
    backend.fail = NativeError("the image came out in one colour")
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, BODY)
        assert reply.status == 500
        streamed = await client.post(GENERATIONS, BODY | {"stream": True})
        assert streamed.status == 500


# --- streams ---


async def test_a_stream_tells_each_step_and_ends_with_the_image() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        events = stream_events(await client.post(GENERATIONS, BODY | {"stream": True, "n": 2}))
    items = [event["data"][0] for event in events]
    assert [(item["index"], item["progressed_steps"], item["progress"]) for item in items] == [
        (index, step, progress) for index in (0, 1) for step, progress in ((0, 0), (1, 33), (2, 66), (3, 100))
    ]
    assert {item["object"] for item in items} == {"image.chunk"}
    finals = [item for item in items if item["progress"] == 100]
    assert [item["finish_reason"] for item in finals] == ["stop", "stop"]
    assert [opened(item["b64_json"]).tobytes() for item in finals] == [picture(made).data for made in backend.made]
    assert [item for item in items if "b64_json" in item] == finals
    assert [event["usage"] is None for event in events] == [True] * 7 + [False]
    assert all(math.isfinite(value) for value in events[-1]["usage"].values())
    assert {event["created"] for event in events} == {events[0]["created"]}


@pytest.mark.parametrize(("option", "mode"), [("preview", Preview.FULL), ("preview_faster", Preview.FAST)])
async def test_previews_come_with_their_steps_and_never_share_the_last(option: str, mode: Preview) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        body = BODY | {"stream": True, "stream_options": {option: True, "include_usage": False}}
        events = stream_events(await client.post(GENERATIONS, body))
    assert backend.made[0].preview is mode
    items = [event["data"][0] for event in events]
    assert [("b64_json" in item, item["progressed_steps"]) for item in items] == [
        (False, 0), (True, 1), (True, 2), (True, 3),
    ]  # fmt: skip
    assert [opened(item["b64_json"]).getpixel((0, 0))[0] for item in items[1:3]] == [1, 2]
    assert all(event["usage"] is None for event in events)


async def test_pieces_are_the_image_when_joined() -> None:
    async with serving() as client:
        options = {"chunk_result": True, "chunk_size": 1024, "preview": True}
        chunked = stream_events(await client.post(GENERATIONS, BODY | {"stream": True, "stream_options": options}))
        plain = stream_events(await client.post(GENERATIONS, BODY | {"stream": True}))
    items = [event["data"][0] for event in chunked if event["data"][0]["progressed_steps"] == 3]
    assert "".join(item["b64_json"] for item in items) == plain[-1]["data"][0]["b64_json"]
    assert all(len(item["b64_json"]) <= 1024 for item in items)
    assert len(items) == math.ceil(len(plain[-1]["data"][0]["b64_json"]) / 1024)
    assert ["finish_reason" in item for item in items] == [False] * (len(items) - 1) + [True]
    assert [event["usage"] is not None for event in chunked][-2:] == [False, True]


@pytest.mark.parametrize("form", [{}, {"partial_images": 1}], ids=["ours", "OpenAI's"])
async def test_a_stream_that_breaks_says_so_and_ends_without_done(form: dict[str, int]) -> None:
    backend = FakeImageBackend()

    def fail(step: int) -> None:
        if step == 2:
            backend.fail = NativeError("no more")

    backend.before_step = fail
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, BODY | {"stream": True} | form)
    assert reply.status == 200
    assert any(line.startswith(b"error: {") for line in reply.body.splitlines())
    assert b"[DONE]" not in reply.body


# --- the rest ---


async def test_without_an_image_model_the_routes_say_what_is_missing() -> None:
    client = Client(make_services())
    for path in (GENERATIONS, EDITS):
        reply = await client.post(path, BODY)
        assert reply.status == 501
        assert "--image-model" in reply.error["message"]


async def test_models_and_metrics_know_the_image_model() -> None:
    async with serving() as client:
        await client.post(GENERATIONS, BODY)
        models = (await client.get("/v1/models")).json["data"]
        assert [model["id"] for model in models] == ["tiny.gguf", "flux"]
        meta = models[1]["meta"]
        assert meta.keys() == {
            "version", "max_batch_count", "max_height", "max_width", "default_height", "default_width", "guidance",
            "strength", "sample_method", "sampling_steps", "cfg_scale", "slg_scale", "slg_skip_layers", "slg_start",
            "slg_end", "schedule_method", "n_slot",
        }  # fmt: skip
        assert meta["sample_method"] == "euler"
        assert meta["sampling_steps"] == 20
        assert (meta["max_width"], meta["default_width"], meta["max_batch_count"]) == (512, 512, 4)
        text = (await client.get("/metrics")).body.decode()
        assert "llamabox:image_process_seconds_total 0.5" in text
        assert "llamabox:image_generate_steps_total 3.0" in text
        figures = dict(line.split(" ") for line in text.splitlines() if line.startswith("llamabox:image_"))
        assert float(figures["llamabox:image_generate_seconds_total"]) == pytest.approx(2.0, rel=0.01)
        assert float(figures["llamabox:image_steps_seconds"]) == pytest.approx(1.5, rel=0.01)
        client.services.text = None
        assert [model["id"] for model in (await client.get("/v1/models")).json["data"]] == ["flux"]


async def test_a_client_that_leaves_stops_the_image() -> None:
    backend = FakeImageBackend()
    reached, left = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def hold(step: int) -> None:
        if step == 1:
            trio.from_thread.run_sync(reached.set, trio_token=token)
            trio.from_thread.run(left.wait, trio_token=token)

    backend.before_step = hold
    async with serving(backend) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, GENERATIONS, BODY | {"n": 4})
            await reached.wait()
            assert len(client.services.running) == 1
            nursery.cancel_scope.cancel()
        left.set()
        backend.before_step = lambda step: None
        assert (await client.post(GENERATIONS, BODY)).status == 200
        assert len(client.services.running) == 0
    assert backend.aborts == 1
    assert len(backend.made) == 2


async def test_a_request_that_names_the_other_kind_of_model_is_refused() -> None:
    """Names that nobody has are taken: clients have names of their own for the one model that there is."""
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    async with serving() as client:
        text = client.services.model_ids[0]
        for path, body, own, other in (
            ("/v1/images/generations", BODY, "flux", text),
            ("/v1/chat/completions", chat, text, "flux"),
        ):
            assert (await client.post(path, body)).json["model"] == own
            assert (await client.post(path, {**body, "model": "gpt"})).json["model"] == "gpt"
            reply = await client.post(path, {**body, "model": other})
            assert (reply.status, reply.error["param"]) == (404, "model")
            assert own in reply.error["message"]
