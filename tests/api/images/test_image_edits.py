"""Edits: forms and data URLs, masks and control images, uploads that are none."""

import io

import attrs
import msgspec
import PIL.Image
import pytest

from engine.image.families import kind_of
from engine.native.sd.image import LoraUse
from llamabox.settings import ImageSettings
from tests.api.images.pictures import EDITS, VARIATIONS, png, post_form, stream_events, url
from tests.api.images.serving import BODY, serving
from tests.images.fake_backend import INFO, FakeImageBackend


@pytest.mark.parametrize("name", ["image", "image[]"])
async def test_an_edit_by_form(name: str) -> None:
    backend = FakeImageBackend()
    mask = PIL.Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    file = io.BytesIO()
    mask.save(file, "PNG")
    fields = {
        "prompt": "a dog", "size": "256x256", "n": "2", "seed": "5", "strength": "0.4", "sample_steps": "3",
        "negative_prompt": "", "guidance": "null", "lora": '[{"id": 0, "scale": 0.5}]', "upscale_repeats": "0",
        "control_canny": "true", "slg_skip_layers": "[1, 2]", "stream": "false",
    }  # fmt: skip
    async with serving(backend) as client:
        reply = await post_form(client, fields, {name: png(), "mask": file.getvalue(), "control": png(8, 8)})
    assert reply.status == 200, reply.body
    assert len(reply.json["data"]) == 2
    made = backend.made[0]
    assert (made.prompt, made.seed, made.strength, made.negative_prompt, made.guidance) == ("a dog", 5, 0.4, "", 3.5)
    assert made.loras == (LoraUse(path="a.safetensors", scale=0.5),)
    assert made.init_image is not None
    assert made.mask is not None
    assert made.control_image is not None
    assert (made.init_image.width, made.mask.width, made.control_image.width) == (256, 256, 256)
    assert (made.mask.data[0], made.mask.data[255]) == (255, 0)
    assert made.slg_layers == (1, 2)


async def test_an_edit_by_json_is_the_same() -> None:
    form_backend, json_backend = FakeImageBackend(), FakeImageBackend()
    async with serving(form_backend) as client:
        fields = {name: str(value) for name, value in BODY.items()}
        assert (await post_form(client, fields, {"image": png()})).status == 200
    async with serving(json_backend) as client:
        assert (await client.post(EDITS, BODY | {"image": [url(png())]})).status == 200
    assert form_backend.made == json_backend.made
    assert json_backend.made[0].mask is None


async def test_a_form_of_the_other_kind_is_refused_as_such() -> None:
    """curl's --data calls JSON one too, which is read as what it is."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    async with serving() as client:
        reply = await client.send("POST", EDITS, b"prompt=a+dog&size=256x256", kind)
        assert reply.status == 400
        assert "multipart/form-data" in reply.error["message"]
        body = msgspec.json.encode(BODY | {"image": url(png())})
        assert (await client.send("POST", EDITS, body, kind)).status == 200
        cut = await client.send("POST", EDITS, b' {"prompt": ', kind)
        assert "not valid JSON" in cut.error["message"]


async def test_a_form_may_hold_data_urls_too() -> None:
    by_files, by_urls = FakeImageBackend(), FakeImageBackend()
    fields = {name: str(value) for name, value in BODY.items()}
    pictures = {"image": png(), "mask": png(), "control": png(8, 8)}
    async with serving(by_files) as client:
        assert (await post_form(client, fields, pictures)).status == 200
    async with serving(by_urls) as client:
        texts = {name: url(data) for name, data in pictures.items()}
        assert (await post_form(client, fields | texts, {})).status == 200
        rest = {"image": png(), "control": png(8, 8)}
        assert (await post_form(client, fields | {"mask": texts["mask"]}, rest)).status == 200
        assert (await post_form(client, fields | {"mask": "null", "control": ""}, rest)).status == 200
    assert by_urls.made[:2] == by_files.made * 2
    assert by_urls.made[2] == attrs.evolve(by_files.made[0], mask=None)


async def test_a_variation_is_an_edit_that_needs_no_prompt() -> None:
    edited, varied = FakeImageBackend(), FakeImageBackend()
    plain = {name: value for name, value in BODY.items() if name != "prompt"}
    async with serving(edited) as client:
        for prompt in ("", "", "a dog"):
            assert (await client.post(EDITS, plain | {"prompt": prompt, "image": url(png())})).status == 200
    async with serving(varied) as client:
        fields = {name: str(value) for name, value in plain.items()}
        assert (await post_form(client, fields, {"image": png()}, VARIATIONS)).status == 200
        assert (await client.post(VARIATIONS, plain | {"image": url(png())})).status == 200
        assert (await post_form(client, fields | {"prompt": "a dog"}, {"image": png()}, VARIATIONS)).status == 200
        for reply in (await post_form(client, fields, {}, VARIATIONS), await client.post(VARIATIONS, plain)):
            assert (reply.status, reply.error["param"]) == (400, "image")
    assert varied.made == edited.made


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt": None}, ""),
        ({"prompt": None, "style": "vivid"}, "vivid style"),
        ({"prompt": "", "style": "natural"}, "natural style"),
        ({"prompt": "a dog", "style": "natural"}, "a dog, natural style"),
    ],
)
async def test_a_variations_prompt_may_be_null(fields: dict[str, str | None], prompt: str) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await client.post(VARIATIONS, BODY | {"image": url(png())} | fields)
        assert reply.status == 200, reply.body
        reply = await client.post(EDITS, BODY | {"image": url(png()), "prompt": None})
        assert (reply.status, reply.error["param"]) == (400, "prompt")
    assert [made.prompt for made in backend.made] == [prompt]


async def test_edges_of_no_control_image_are_refused() -> None:
    """Where they were asked for: the flag is for the requests that have one."""
    backend = FakeImageBackend()
    async with serving(backend) as client:
        images = ImageSettings(control_canny=True)
        client.services.settings = attrs.evolve(client.services.settings, images=images)
        body = BODY | {"image": url(png())}
        reply = await client.post(EDITS, body | {"control_canny": True})
        assert (reply.status, reply.error["param"]) == (400, "control_canny")
        assert (await client.post(EDITS, body)).status == 200
        assert (await client.post(EDITS, body | {"control": url(png())})).status == 200
    assert [made.control_image for made in backend.made] == [None, backend.find_edges(backend.made[1].init_image)]


async def test_the_control_image_has_its_strength_and_its_edges_can_be_found() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        body = BODY | {"image": url(png()), "control": url(png()), "control_strength": 0.4}
        for canny in (True, False, None):
            assert (await client.post(EDITS, body | {"control_canny": canny})).status == 200
    found, plain, unsaid = (made.control_image for made in backend.made)
    assert plain == unsaid
    assert found == backend.find_edges(plain)
    assert [made.control_strength for made in backend.made] == [0.4] * 3


async def test_an_edit_can_be_streamed() -> None:
    async with serving() as client:
        fields = {name: str(value) for name, value in BODY.items()}
        fields |= {"stream": "true", "stream_options_preview": "true", "stream_options_include_usage": "false"}
        items = [event["data"][0] for event in stream_events(await post_form(client, fields, {"image": png()}))]
    assert ["b64_json" in item for item in items] == [False, True, True, True]


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        ({}, {}, "image"),
        ({}, {"image": b""}, "image"),
        ({}, {"image": b"no picture"}, "image"),
        ({}, {"image": png()[:60]}, "image"),
        ({}, {"image": png(), "image[]": png()}, "image"),
        ({}, {"image": png(), "mask": png(16, 16)}, "mask"),
        ({}, {"image": png(), "mask": b"x"}, "mask"),
        ({}, {"image": png(), "control": b"x"}, "control"),
        ({"image": "photo.png"}, {}, "image"),
        ({"image": url(png())}, {"image": png()}, "image"),
        ({"mask": "photo.png"}, {"image": png()}, "mask"),
        ({"n": "many"}, {"image": png()}, "n"),
        ({"quality": "low"}, {"image": png()}, "quality"),
        ({"strength": "2"}, {"image": png()}, "strength"),
        ({"strength": "nan"}, {"image": png()}, "strength"),
        ({"cfg_scale": "inf"}, {"image": png()}, "cfg_scale"),
        ({"lora": "[{"}, {"image": png()}, "lora"),
        ({"stream_options": "{"}, {"image": png()}, "stream_options"),
        ({"stream_options": "[]", "stream_options_preview": "true"}, {"image": png()}, "stream_options"),
        ({"stream_options_chunk_size": "5"}, {"image": png()}, "stream_options.chunk_size"),
        ({"lora": "[" * 100_000}, {"image": png()}, "lora"),
        ({"prompt": ""}, {"image": png()}, "prompt"),
        ({}, {"image": png(), "markup": png()}, "markup"),
        ({}, {"image": png(), "image[1]": png()}, "image[1]"),
        ({"mask": url(png())}, {"image": png(), "mask": png()}, "mask"),
        ({"control": url(png())}, {"image": png(), "control": png()}, "control"),
        ({"background": "transparent"}, {"image": png()}, "background"),
        ({"input_fidelity": "high"}, {"image": png()}, "input_fidelity"),
    ],
)
async def test_edits_that_cannot_be(fields: dict[str, str], files: dict[str, bytes], param: str) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        plain = {name: str(value) for name, value in BODY.items()}
        reply = await post_form(client, plain | fields, files)
        assert (reply.status, reply.error["param"]) == (400, param), reply.body
        assert backend.made == []


@pytest.mark.parametrize("field", ["svg", "markup", "complexity"])
async def test_edits_refuse_what_is_not_offered_in_json_too(field: str) -> None:
    async with serving() as client:
        reply = await client.post(EDITS, BODY | {"image": url(png()), field: "x"})
        assert (reply.status, reply.error["param"]) == (400, field)


@pytest.mark.parametrize("image", ["", "http://a.example/b.png", "data:image/png,abc", "data:image/png;base64,%%"])
async def test_urls_that_are_no_images(image: str) -> None:
    async with serving() as client:
        reply = await client.post(EDITS, BODY | {"image": image})
        assert (reply.status, reply.error["param"]) == (400, "image")


async def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = io.BytesIO()
    PIL.Image.new("1", (9000, 9000)).save(bomb, "PNG")
    async with serving() as client:
        reply = await post_form(client, {"prompt": "a"}, {"image": bomb.getvalue()})
    assert (reply.status, reply.error["param"]) == (400, "image")
    assert "at most" in reply.error["message"]


async def test_uploads_over_the_limit() -> None:
    async with serving(max_body=2000) as client:
        reply = await post_form(client, {"prompt": "a"}, {"image": b"x" * 3000})
    assert reply.status == 413


async def test_control_images_need_a_control_net() -> None:
    plain = attrs.evolve(INFO, has_control_net=False)
    async with serving(FakeImageBackend(plain)) as client:
        reply = await post_form(client, {"prompt": "a"}, {"image": png(), "control": png()})
        assert (reply.status, reply.error["param"]) == (501, "control")
    takes = attrs.evolve(plain, version="Flux Control", kind=kind_of("Flux Control"))
    async with serving(FakeImageBackend(takes)) as client:
        reply = await post_form(client, {"prompt": "a", "sample_steps": "1"}, {"image": png(), "control": png()})
        assert reply.status == 200, reply.body


@pytest.mark.parametrize("options", ["5", "[1]", '"x"', "true"])
async def test_stream_options_of_a_form_that_are_no_object_are_refused(options: str) -> None:
    fields = {name: str(value) for name, value in BODY.items()}
    fields |= {"stream": "true", "stream_options": options, "stream_options_preview": "true"}
    async with serving() as client:
        reply = await post_form(client, fields, {"image": png()})
    assert (reply.status, reply.error["param"]) == (400, "stream_options")
