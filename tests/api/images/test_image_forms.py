"""Forms of edits: what is malformed is refused, large ones are taken, lists and objects as OpenAI's SDK writes them."""

import math
import random
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import ApiError
from api.images.brackets import nested
from engine.native.sd.image import LoraUse, RgbImage
from engine.native.sd.options import Preview
from llamabox.images.encode import encode_image
from tests.api.conftest import Client, Reply
from tests.api.images.pictures import EDITS, form, png, post_form, url
from tests.api.images.serving import BODY, serving
from tests.images.fake_backend import FakeImageBackend

FIELDS = {name: str(value) for name, value in BODY.items()}
WHOLE, HEADERS = form(FIELDS, {"image": png(), "mask": png()})
END = b"--xxBOUNDARYxx--\r\n"


def with_part(head: str, content: bytes = b"x") -> bytes:
    return WHOLE.removesuffix(END) + f"--xxBOUNDARYxx\r\n{head}\r\n\r\n".encode() + content + b"\r\n" + END


async def send(client: Client, body: bytes, content_type: str = HEADERS["Content-Type"]) -> Reply:
    return await client.send("POST", EDITS, body, {"Content-Type": content_type})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (WHOLE.removesuffix(END), HEADERS["Content-Type"]),
        (WHOLE[:-60], HEADERS["Content-Type"]),
        (b"", HEADERS["Content-Type"]),
        (b"\0\xff" * 500, HEADERS["Content-Type"]),
        (WHOLE, "multipart/form-data"),
        (WHOLE, "multipart/form-data; boundary=other"),
        (with_part("X-Other: y"), HEADERS["Content-Type"]),
        (with_part("Content-Disposition: form-data"), HEADERS["Content-Type"]),
        (with_part('Content-Disposition: form-data; filename="a.png"'), HEADERS["Content-Type"]),
        (with_part('Content-Disposition: form-data; name="model"', b"\xff"), HEADERS["Content-Type"]),
        (WHOLE, "multipart/form-data; boundary=é"),
    ],
)
async def test_what_is_no_form_or_has_no_end_is_refused(body: bytes, content_type: str) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await send(client, body, content_type)
        assert reply.status == 400
        assert "orm" in reply.error["message"]
        assert backend.made == []
        assert (await send(client, WHOLE)).status == 200, "this one is whole"


async def test_a_form_of_very_many_parts_is_refused() -> None:
    part = b'--xxBOUNDARYxx\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    async with serving() as client:
        reply = await send(client, part * 1001 + END)
    assert (reply.status, "parts" in reply.error["message"]) == (400, True)


async def test_a_text_may_be_in_latin_1_where_it_says_so() -> None:
    backend = FakeImageBackend()
    head = 'Content-Disposition: form-data; name="negative_prompt"\r\nContent-Type: text/plain; charset=ISO-8859-1'
    async with serving(backend) as client:
        assert (await send(client, with_part(head, "é".encode("latin-1")))).status == 200
    assert backend.made[0].negative_prompt == "é"


async def test_large_pictures_may_be_files_or_data_urls() -> None:
    noise = random.Random(7).randbytes(600 * 600 * 3)
    large = encode_image(RgbImage(width=600, height=600, data=noise))
    assert len(large) > 750_000
    backend = FakeImageBackend()
    async with serving(backend) as client:
        assert (await post_form(client, FIELDS, {"image": large})).status == 200
        assert (await post_form(client, FIELDS | {"image": url(large)}, {})).status == 200
    assert backend.made[0] == backend.made[1]


async def test_a_form_that_does_not_say_its_length_has_the_same_limit() -> None:
    piece = b"x" * 1000
    head = b'--xxBOUNDARYxx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    async with serving(max_body=5000) as client:
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": EDITS,
            "query_string": b"", "headers": [(b"host", b"test"), (b"content-type", HEADERS["Content-Type"].encode())],
            "extensions": {},
        }  # fmt: skip
        arriving, received = trio.open_memory_channel[dict[str, Any]](math.inf)
        for content in (head, *[piece] * 20, b"\r\n" + END):
            arriving.send_nowait({"type": "http.request", "body": content, "more_body": content != b"\r\n" + END})
        sent: list[dict[str, Any]] = []

        async def send_away(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        with arriving, received, trio.fail_after(10):
            await client.app(scope, received.receive, send_away)
    assert sent[0]["status"] == 413


def test_lists_and_objects_as_the_sdk_writes_them() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        sent.append(request)
        return httpx.Response(200, json={"created": 1, "data": []})

    more = {
        "lora": [{"id": 0, "scale": 0.5}, {"id": 1, "scale": -1}],
        "slg_skip_layers": [1, 2],
        "slg_scale": 1,
        "stream_options": {"preview": True},
        "sample_steps": 2,
    }
    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as http,
        openai.OpenAI(base_url="http://x/v1", api_key="none", http_client=http) as sdk,
    ):
        sdk.images.edit(image=png(), prompt="a", size="256x256", stream=True, extra_body=more).close()
    backend = FakeImageBackend()

    async def ask() -> Reply:
        async with serving(backend) as client:
            (request,) = sent
            return await send(client, request.content, request.headers["Content-Type"])

    assert trio.run(ask).status == 200
    (made,) = backend.made
    assert made.loras == (LoraUse(path="a.safetensors", scale=0.5), LoraUse(path="b.safetensors", scale=-1.0))
    assert made.slg_layers == (1, 2)
    assert made.preview is Preview.FULL


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([("lora[][id]", "0"), ("lora[][id]", "1"), ("lora[][scale]", "1")], "lora"),
        ([("lora[][id]", "0"), ("lora[][scale]", "x")], "lora[0].scale"),
        ([("slg_skip_layers[]", "x")], "slg_skip_layers[0]"),
        ([("slg_skip_layers[]", "1"), ("slg_skip_layers", "[2]")], "slg_skip_layers"),
        ([("stream_options[chunk_size]", "5")], "stream_options.chunk_size"),
        ([("svg[model]", "x")], "svg"),
        ([("n[]", "1")], "n"),
        ([("seed", "1")], "seed"),
        ([("prompt", "a dog")], "prompt"),
    ],
)
async def test_fields_in_brackets_or_given_twice_that_cannot_be(parts: list[tuple[str, str]], param: str) -> None:
    async with serving() as client:
        more = b"".join(
            f'--xxBOUNDARYxx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
            for name, text in parts
        )
        reply = await send(client, more + WHOLE)
    assert (reply.status, reply.error["param"]) == (400, param)


async def test_other_names_in_brackets_are_as_good_as_none() -> None:
    async with serving() as client:
        extra = {"metadata[a]": "b", "x[": "1", "[]": "2", "y[][][z]": "3"}
        assert (await post_form(client, FIELDS | extra, {"image": png()})).status == 200


@given(st.lists(st.tuples(st.text("ab[]", max_size=8), st.text(max_size=2)), max_size=6))
@settings(deadline=None)
def test_any_names_make_fields_or_a_refusal(parts: list[tuple[str, str]]) -> None:
    with suppress(ApiError):
        assert set(nested(parts)) <= {name.partition("[")[0] for name, _ in parts}
