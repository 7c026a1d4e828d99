"""The real server with a text model and an image model, as the OpenAI SDK sees it."""

import base64
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import PIL.Image
import pytest

from llamabox.images.encode import encode_image
from tests.images.asking import gradient
from tests.live.process import environment, launch, serving
from tests.models.tiny_sd import TinySd

SIZE = "256x256"
QUICK = {"sample_steps": 2, "seed": 7, "sampler": "euler", "cfg_scale": 1}


@pytest.fixture(scope="module")
def server(tiny_model: Path, tiny_sd: TinySd) -> Iterator[str]:
    """URL of a server with both kinds of models."""
    with serving(
        "-m", str(tiny_model), "--alias", "tiny", "--image-model", str(tiny_sd.model), "--image-taesd-model",
        str(tiny_sd.taesd), "--image-lora", str(tiny_sd.lora), "--metrics", "-c", "512",
        "--image-niceness", "0",
    ) as (_, url):  # fmt: skip
        yield url


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def cat(client: openai.OpenAI) -> bytes:
    """The pixels that the simplest request gets."""
    made = client.images.generate(prompt="a cat", size=SIZE, n=1, extra_body=QUICK)
    assert made.data is not None
    return pixels(made.data[0].b64_json)


def pixels(text: str | None) -> bytes:
    assert text is not None
    image = PIL.Image.open(io.BytesIO(base64.b64decode(text)))
    assert image.size == (256, 256)
    return image.tobytes()


def test_both_models_are_listed_and_text_is_served(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == ["tiny", "tiny-sd"]
    reply = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=3)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


def test_generate_stream_and_edit(client: openai.OpenAI, server: str, cat: bytes) -> None:
    body = {"prompt": "a cat", "size": SIZE, "stream": True, "stream_options": {"preview_faster": True}} | QUICK
    events: list[object] = []
    with httpx.stream("POST", f"{server}/v1/images/generations", json=body, timeout=100) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: "))["data"][0])
            elif line and not line.startswith(":"):  # a busy machine: a comment keeps the connection alive
                assert line == "data: [DONE]"
    assert [event["progress"] for event in events] == [0, 50, 100]
    assert pixels(events[-1]["b64_json"]) == cat
    edited = client.images.edit(
        image=encode_image(gradient()), prompt="a dog", size=SIZE, extra_body=QUICK | {"strength": 0.5}
    )
    assert edited.data is not None
    assert pixels(edited.data[0].b64_json) != cat
    assert "llamabox:image_generate_steps_total 6.0" in httpx.get(f"{server}/metrics").text


def test_openais_own_events(client: openai.OpenAI, cat: bytes) -> None:
    stream = client.images.generate(prompt="a cat", size=SIZE, stream=True, partial_images=1, extra_body=QUICK)
    *early, last = list(stream)
    assert [event.type for event in early] == ["image_generation.partial_image"]
    assert isinstance(last, openai.types.ImageGenCompletedEvent)
    assert pixels(last.b64_json) == cat
    assert last.usage.total_tokens == 0


def test_a_bad_request_is_told_and_a_client_that_leaves_frees_the_engine(
    client: openai.OpenAI, server: str, cat: bytes
) -> None:
    with pytest.raises(openai.BadRequestError, match="weight"):
        client.images.generate(prompt="(a:.)", size=SIZE)
    body = {"prompt": "a cat", "size": "1024x1024", "n": 4, "stream": True, "sample_steps": 1000}
    with httpx.stream("POST", f"{server}/v1/images/generations", json=body, timeout=100) as reply:
        assert next(reply.iter_lines()).startswith("data: ")
    # Uncancelled, that one would take an hour.
    made = client.images.generate(prompt="a cat", size=SIZE, extra_body=QUICK)
    assert made.data is not None
    assert pixels(made.data[0].b64_json) == cat


def test_a_server_that_makes_images_only(tiny_sd: TinySd) -> None:
    with serving("--images", "-m", str(tiny_sd.model), "--image-taesd-model", str(tiny_sd.taesd)) as (_, url):
        assert [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]] == ["tiny-sd"]
        assert httpx.post(f"{url}/v1/chat/completions", json={"messages": []}).status_code == 501
        body = {"prompt": "a cat", "size": SIZE, "stream": True, **QUICK}
        with httpx.stream("POST", f"{url}/v1/images/generations", json=body, timeout=100) as reply:
            assert reply.status_code == 200
            assert next(reply.iter_lines()).startswith((":", "data: "))  # it ends cleanly although the client has gone


def test_a_model_that_is_none_ends_the_start_with_the_reason(tiny_sd: TinySd) -> None:
    server = launch("--port", "0", "--images", "-m", str(tiny_sd.lora))
    assert server.wait() == 1
    assert "it is a LoRA" in server.log
    assert "Traceback" not in server.log


def test_a_stop_while_the_image_model_is_tried_ends_at_once(tiny_sd: TinySd, tmp_path: Path) -> None:
    """In a cache of its own, where no verdict on the files is remembered, so that they are tried."""
    env = environment(XDG_CACHE_HOME=str(tmp_path))
    server = launch(
        "--port", "0", "--images", "-m", str(tiny_sd.model), "--image-taesd-model", str(tiny_sd.taesd), env=env
    )
    try:
        server.wait_for("listening on")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.log
        assert "image model" not in server.log
        assert "Traceback" not in server.log
    finally:
        server.end()


def test_a_flag_that_does_not_suit_the_model_ends_the_start(tiny_sd: TinySd) -> None:
    server = launch(
        "--images", "-m", str(tiny_sd.model), "--image-taesd-model", str(tiny_sd.taesd), "--image-schedule", "ays",
        "--port", "0",
    )  # fmt: skip
    try:
        server.wait_for("--image-schedule-method: the ays schedule works with SD1 and SDXL models")
        assert server.wait() == 1
    finally:
        server.end()
