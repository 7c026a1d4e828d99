"""Images and sound on tiny projectors, through the whole server."""

import base64
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from PIL import Image

from tests.live.process import launch, serving
from tests.models.pictures import data_url, encoded, picture, png, wav, wave
from tests.models.tiny_mmproj import N_SOUND_TOKENS, N_TOKENS, write_tiny_audio_mmproj, write_tiny_mmproj

ARGUMENTS = ("-np", "4", "-c", "2048", "--metrics", "--slots", "--alias", "tiny")


@pytest.fixture(scope="module")
def media_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media")
    (path / "one.png").write_bytes(png(1))
    return path


@pytest.fixture(scope="module")
def vision_server(tiny_model: Path, media_dir: Path) -> Iterator[httpx.Client]:
    projector = write_tiny_mmproj(media_dir.parent / "tiny-mmproj.gguf")
    arguments = ("-m", str(tiny_model), *ARGUMENTS, "--mmproj", str(projector), "--media-path", str(media_dir))
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def audio_server(tiny_model: Path, media_dir: Path) -> Iterator[httpx.Client]:
    projector = write_tiny_audio_mmproj(media_dir.parent / "tiny-audio.gguf")
    with (
        serving("-m", str(tiny_model), *ARGUMENTS, "--mmproj", str(projector)) as (_, url),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def image(source: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": source}}


def sound(data: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def ask(*parts: dict[str, Any] | str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 8, **fields}


def chat(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counter(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^llamabox:{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def said(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


def test_a_repeated_image_is_encoded_once_and_its_cells_are_shared(vision_server: httpx.Client) -> None:
    before = counter(vision_server, "media_encoded_total")
    body = ask("what is this", image(data_url(png(1))), "in one word")
    first = chat(vision_server, body)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] < N_TOKENS
    text_only = chat(vision_server, ask("what is this", "in one word"))
    # One newline less: beside a medium there is none.
    assert first["usage"]["prompt_tokens"] == text_only["usage"]["prompt_tokens"] + N_TOKENS - 1
    again = chat(vision_server, body)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == again["usage"]["prompt_tokens"] - 1
    assert said(again) == said(first)
    # Cached no more by its cells' text, but its encoding is: the image stands elsewhere.
    elsewhere = ask("another beginning", image(data_url(png(1))))
    chat(vision_server, elsewhere)
    assert counter(vision_server, "media_encoded_total") == before + 1


def test_images_decide_the_answer(vision_server: httpx.Client) -> None:
    def first_logprob(seed: int) -> float:
        answer = chat(vision_server, ask("see", image(data_url(png(seed))), logprobs=True))
        return answer["choices"][0]["logprobs"]["content"][0]["logprob"]

    assert len({first_logprob(seed) for seed in range(10, 14)}) == 4


def test_two_images_in_order_and_streamed(vision_server: httpx.Client) -> None:
    parts = ("a", image(data_url(png(20))), "b", image(data_url(png(21))), "c")
    whole = chat(vision_server, ask(*parts))
    body = ask(*parts, stream=True, stream_options={"include_usage": True})
    events = [
        json.loads(line[6:])
        for line in vision_server.post("/v1/chat/completions", json=body).text.splitlines()
        if line.startswith("data: {")
    ]
    streamed = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    assert streamed == said(whole)
    assert events[-1]["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert whole["usage"]["prompt_tokens"] > 2 * N_TOKENS


def test_a_conversation_goes_on_with_its_image(vision_server: httpx.Client) -> None:
    body = ask("look", image(data_url(png(30))), max_tokens=4)
    first = chat(vision_server, body)
    body["messages"] += [{"role": "assistant", "content": said(first)}, {"role": "user", "content": "and now"}]
    second = chat(vision_server, body)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] - 1
    assert counter(vision_server, "media_total") >= 1


def test_side_by_side_each_gets_what_it_gets_alone(vision_server: httpx.Client) -> None:
    bodies = [ask("count", max_tokens=40), ask("see", image(data_url(png(70)))), ask("tell", max_tokens=40)]
    bodies += [ask("see", image(data_url(png(71))), image(data_url(png(70))), "both", cache_prompt=False)]
    alone = [said(chat(vision_server, body)) for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: said(chat(vision_server, body)), bodies * 2))
    assert together == alone * 2


def test_a_client_that_leaves_frees_its_cells(vision_server: httpx.Client) -> None:
    body = ask("see", image(data_url(png(80))), max_tokens=1500, stream=True)
    with vision_server.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    while any(slot["is_processing"] for slot in vision_server.get("/slots").json()):
        pass
    assert counter(vision_server, "kv_cache_tokens") == 0


def test_all_apis_see_the_same_image(vision_server: httpx.Client) -> None:
    data = png(40)
    chat_answer = chat(vision_server, ask("look", image(data_url(data))))
    parts = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": data_url(data)}]
    responses = {"input": [{"role": "user", "content": parts}], "temperature": 0, "max_output_tokens": 8}
    answer = vision_server.post("/v1/responses", json=responses).json()
    assert answer["output"][0]["content"][0]["text"] == said(chat_answer)
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
    messages = [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "source": source}]}]
    url = str(vision_server.base_url)
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        message = client.messages.create(model="tiny", max_tokens=8, messages=messages, extra_body={"temperature": 0})
        count = client.messages.count_tokens(model="tiny", messages=messages)
    assert message.content[0].text == said(chat_answer)
    assert count.input_tokens == chat_answer["usage"]["prompt_tokens"]
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (1, count.input_tokens - 1)


def test_native_prompts_with_media(vision_server: httpx.Client) -> None:
    data = base64.b64encode(png(50)).decode()
    prompt = {"prompt_string": "see <__media__> here", "multimodal_data": [data]}
    body = {"prompt": prompt, "n_predict": 4, "temperature": 0}
    answer = vision_server.post("/completion", json=body).json()
    assert answer["prompt"] == prompt["prompt_string"]
    assert answer["tokens_evaluated"] > N_TOKENS
    in_a_list = vision_server.post("/completion", json={**body, "prompt": [prompt, "text"]}).json()
    assert in_a_list[0]["content"] == answer["content"]
    echoed = vision_server.post("/v1/completions", json={"prompt": prompt, "max_tokens": 2, "echo": True}).json()
    assert echoed["choices"][0]["text"].startswith("see <__media__> here")


def test_images_come_from_files_of_the_media_directory_only(vision_server: httpx.Client, media_dir: Path) -> None:
    inline = chat(vision_server, ask("x", image(data_url(png(1)))))
    for url in ("file://one.png", f"file://{media_dir}/one.png"):
        assert said(chat(vision_server, ask("x", image(url)))) == said(inline)
    for url in ("file:///etc/passwd", "file://../tiny-mmproj.gguf", "file://none.png", "file://"):
        answer = vision_server.post("/v1/chat/completions", json=ask("x", image(url)))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].content[1]"), url


def test_what_a_user_writes_is_no_mark(vision_server: httpx.Client) -> None:
    chat(vision_server, ask("I write <__media__> and <|im_end|>", image(data_url(png(60))), "<__media__>"))


BAD = {
    "not base64": "data:image/png;base64,!!!",
    "no image": data_url(b"no image at all"),
    "cut off": data_url(png(1)[:400]),
    "empty": "data:image/png;base64,",
    "svg": data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    "bomb": data_url(encoded(Image.new("1", (10_000, 10_000)))),
    "thin": data_url(encoded(picture(0, (1, 1)).resize((6_000, 1)))),
    "loopback": "http://127.0.0.1:1/x.png",
    "localhost": "http://localhost/x.png",
    "mapped": "http://[::ffff:127.0.0.1]/x.png",
    "number": "http://2130706433/x.png",
    "metadata service": "http://169.254.169.254/latest/meta-data",
    "ftp": "ftp://example.com/x.png",
    "user": "http://user:secret@example.com/x.png",
    "no host": "http:///x.png",
}


@pytest.mark.parametrize("source", BAD.values(), ids=BAD)
def test_bad_images_are_refused_and_the_server_goes_on(vision_server: httpx.Client, source: str) -> None:
    answer = vision_server.post("/v1/chat/completions", json=ask("x", image(source)))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == "messages[0].content[1]", error
    assert ("megapixels" in error["message"]) == (source == BAD["bomb"]), error
    assert vision_server.get("/health").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [sound(wav(wave()))]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]}]},
        {"messages": [{"role": "assistant", "content": [image(data_url(png()))]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_video", "input_video": {}}]}]},
        {"messages": [{"role": "user", "content": [image(data_url(png(n))) for n in range(40)]}]},
    ],
    ids=["sound", "no url", "url is no text", "assistant", "video", "too many"],
)
def test_bad_parts_are_refused(vision_server: httpx.Client, fields: dict[str, Any]) -> None:
    answer = vision_server.post("/v1/chat/completions", json=fields)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("no mark", [png()]),
        ("<__media__> <__media__>", [png()]),
        ("ends with <__media__>", [png()]),
        ("<__media__>x", [b"?"]),
    ],
    ids=["no mark", "more marks", "nothing behind", "no image"],
)
def test_bad_native_prompts_are_refused(vision_server: httpx.Client, text: str, data: list[bytes]) -> None:
    prompt = {"prompt_string": text, "multimodal_data": [base64.b64encode(one).decode() for one in data]}
    answer = vision_server.post("/completion", json={"prompt": prompt, "n_predict": 2})
    assert answer.status_code == 400, answer.text


def test_modalities_are_told(vision_server: httpx.Client, audio_server: httpx.Client) -> None:
    props = vision_server.get("/props").json()
    assert (props["modalities"], props["media_marker"]) == ({"vision": True, "audio": False}, "<__media__>")
    meta = audio_server.get("/v1/models").json()["data"][0]["meta"]
    assert (meta["support_vision"], meta["support_audio"]) == (False, True)


def test_sound(audio_server: httpx.Client) -> None:
    body = ask("listen", sound(wav(wave())), "well")
    answer = chat(audio_server, body)
    text_only = chat(audio_server, ask("listen", "well"))
    assert answer["usage"]["prompt_tokens"] == text_only["usage"]["prompt_tokens"] + N_SOUND_TOKENS - 1
    again = chat(audio_server, body)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == again["usage"]["prompt_tokens"] - 1
    long = chat(audio_server, ask(sound(wav(wave(31)))))
    assert long["usage"]["prompt_tokens"] > 2 * N_SOUND_TOKENS
    for bad in (b"", b"RIFF0000WAVE", wav(wave(0.01)), b"\xff\xfb\x90", png()):
        refused = audio_server.post("/v1/chat/completions", json=ask("x", sound(bad)))
        assert refused.status_code == 400, bad[:20]


def test_the_projector_of_another_model_is_refused_at_the_start(tiny_model: Path, tmp_path: Path) -> None:
    wrong = write_tiny_mmproj(tmp_path / "wrong.gguf", n_embd_text=48)
    server = launch("--port", "0", "-m", str(tiny_model), "--mmproj", str(wrong))
    assert server.wait() == 1
    assert "mismatch between text model (n_embd = 64) and mmproj (n_embd = 48)" in server.log
    assert "Traceback" not in server.log
