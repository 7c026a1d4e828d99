"""The shell tools for images against a server that is scripted."""

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.conftest import TOOLS, Run, environment, needs, on_terminal
from tests.tools.fake_openai import FakeOpenAI, Reply, refusal, scripted, streamed_images

pytestmark = needs("bash", "curl", "jq", "base64")

SCRIPTS = ["image_generate.sh", "image_edit.sh"]
AWKWARD = """it's "$(touch /nowhere)" `x` \\n @a;type=b 日本語 😀\n\ttwo = lines"""
# Every byte, and more of them than a pipe holds.
PICTURE = bytes(range(256)) * 1024
EDITED = b"\x89PNG\0\n"


def step(number: int, *, index: int = 0, picture: bytes | None = None) -> dict[str, Any]:
    body = {"index": index, "object": "image.chunk", "progress": 25 * number, "progressed_steps": number}
    return body if picture is None else body | {"b64_json": base64.b64encode(picture).decode()}


def final(picture: bytes = PICTURE, *, index: int = 0) -> dict[str, Any]:
    return step(4, index=index, picture=picture) | {"finish_reason": "stop"}


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / 'an "odd", name;type=x.png'
    path.write_bytes(EDITED)
    return str(path)


def saved(folder: Path, pattern: str = "image-*") -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob(pattern))]


def test_one_prompt(run: Run, tmp_path: Path) -> None:
    with scripted(streamed_images(step(0), step(2), final())).running() as server:
        done = run("image_generate.sh", AWKWARD, url=server.url)
    assert done.returncode == 0, done.stderr
    (name,) = done.stdout.splitlines()
    assert re.fullmatch(r"\./image-\d{8}-\d{6}-1\.png", name)
    assert (tmp_path / name).read_bytes() == PICTURE
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~_umask(), "it is the user's, like any other file"
    (asked,) = server.asked
    assert asked.path == "/v1/images/generations"
    assert asked.headers["content-type"] == "application/json"
    options = {"include_usage": True, "preview": False, "preview_faster": False}
    assert asked.body == {"prompt": AWKWARD, "stream": True, "stream_options": options}
    *steps, figures = done.stderr.splitlines()
    assert steps == ["image 1: 0%, step 0", "image 1: 50%, step 2", "image 1: 100%, step 4"]
    assert re.fullmatch(r"1 image in [0-9.]+ s; encoding 12\.3 ms, 250 ms a step, 4 steps/s", figures)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_several_images_with_previews(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    items = [step(1, picture=b"a1"), final(b"a"), step(1, index=1, picture=b"b1"), final(b"b", index=1)]
    with scripted(streamed_images(*items)).running() as server:
        done = run("image_generate.sh", "?", url=server.url, OUTPUT="out", N="2")
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / name).read_bytes() for name in done.stdout.splitlines()] == [b"a", b"b"]
    assert saved(tmp_path / "out", "image-*-?-step-1.png") == [b"a1", b"b1"]
    assert len(saved(tmp_path / "out")) == 4
    assert "-1-step-1.png\n" in done.stderr
    assert "2 images in " in done.stderr


def test_a_picture_is_saved_as_it_comes(tmp_path: Path) -> None:
    seen = threading.Event()

    def lines() -> Iterator[str]:
        first, ping, *rest = streamed_images(step(1, picture=b"early"), final()).lines
        yield first
        yield ping
        if seen.wait(30):
            yield from rest

    with scripted(Reply(content_type="text/event-stream", lines=lines())).running() as server:
        with subprocess.Popen(
            [TOOLS / "image_generate.sh", "?"], env=environment(server.url, tmp_path), cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as tool:  # fmt: skip
            assert tool.stderr is not None
            assert tool.stderr.readline() == "image 1: 25%, step 1\n"
            assert (tmp_path / tool.stderr.readline().strip()).read_bytes() == b"early"
            seen.set()
            tool.stderr.read()
        assert tool.returncode == 0


def test_no_file_is_overwritten(run: Run, tmp_path: Path) -> None:
    """Two in one second, as a prompt a line gives them."""
    with scripted(streamed_images(final(b"a")), streamed_images(final(b"b"))).running() as server:
        done = run("image_generate.sh", url=server.url, stdin="one\n\ntwo")
    assert done.returncode == 0
    assert [(tmp_path / name).read_bytes() for name in done.stdout.splitlines()] == [b"a", b"b"]
    assert [asked.body["prompt"] for asked in server.asked] == ["one", "two"]


SETTINGS = {
    "N": "2", "SIZE": "256x512", "QUALITY": "hd", "STYLE": "vivid", "SAMPLER": "euler", "SAMPLE_STEPS": "4",
    "SCHEDULE": "karras", "SEED": "7", "GUIDANCE": "3.5", "CFG_SCALE": "1", "NEGATIVE_PROMPT": AWKWARD,
    "STRENGTH": "0.5", "PREVIEW": "faster", "API_KEY": "secret",
}  # fmt: skip
FIELDS = {
    "n": 2, "size": "256x512", "quality": "hd", "style": "vivid", "sample_method": "euler", "sampling_steps": 4,
    "schedule_method": "karras", "seed": 7, "guidance": 3.5, "cfg_scale": 1, "negative_prompt": AWKWARD,
    "strength": 0.5, "prompt": "?", "stream": True,
    "stream_options": {"include_usage": True, "preview": False, "preview_faster": True},
}  # fmt: skip


def test_settings(run: Run) -> None:
    with scripted(streamed_images(final())).running() as server:
        assert run("image_generate.sh", "?", url=server.url + "/", **SETTINGS).returncode == 0
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.body == FIELDS


def test_an_edit_is_a_form_with_the_same_fields(run: Run, tmp_path: Path, image: str) -> None:
    (tmp_path / "mask.png").write_bytes(b"mask")
    with scripted(streamed_images(final())).running() as server:
        files = {"IMAGE": image, "MASK": "mask.png", "CONTROL": "mask.png"}
        done = run("image_edit.sh", "?", url=server.url, **SETTINGS, **files)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip()).read_bytes() == PICTURE
    (asked,) = server.asked
    assert asked.path == "/v1/images/edits"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.files == {"image": EDITED, "mask": b"mask", "control": b"mask"}
    assert {name: _read(text) for name, text in asked.body.items()} == FIELDS | {"size": "256x512"}


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_an_edit_without_more_files(run: Run, image: str) -> None:
    with scripted(streamed_images(final()), streamed_images(final())).running() as server:
        done = run("image_edit.sh", url=server.url, stdin=f"{AWKWARD.splitlines()[0]}\nsecond\n", IMAGE=image)
    assert done.returncode == 0, done.stderr
    assert [asked.files for asked in server.asked] == [{"image": EDITED}] * 2
    assert [asked.body["prompt"] for asked in server.asked] == [AWKWARD.splitlines()[0], "second"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_file_with_a_request_wins_over_the_settings(run: Run, tmp_path: Path, image: str, script: str) -> None:
    request = {"prompt": "a", "seed": 1, "output_format": "webp", "stream": False, "slg_skip_layers": [1, 2],
               "stream_options": {"preview": True, "chunk_result": True}}  # fmt: skip
    (tmp_path / "request.json").write_text(json.dumps(request))
    with scripted(streamed_images(final())).running() as server:
        done = run(script, "@request.json", url=server.url, SEED="3", CFG_SCALE="2", IMAGE=image)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("-1.webp\n")
    body = {
        name: _read(str(text)) if script == "image_edit.sh" else text for name, text in server.asked[0].body.items()
    }
    assert (body["prompt"], body["seed"], body["cfg_scale"], body["stream"]) == ("a", 1, 2, True)
    assert body["slg_skip_layers"] == [1, 2]
    assert body["stream_options"] == {"include_usage": True, "preview": True, "preview_faster": False}


@pytest.mark.parametrize("text", ["", "{", "3", '{"prompt": 1}', "{} {}", '{"prompt": "a", "image": "b"}'])
def test_a_file_that_is_no_request(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    done = run("image_generate.sh", "@bad.json")
    assert done.returncode == 2
    assert "bad.json: " in done.stderr
    assert "jq" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("N", "many"), ("SEED", "x"), ("PREVIEW", "maybe"), ("API_KEY", "a\nb"), ("OUTPUT", "absent"), ("MASK", "absent"),
     ("IMAGE", "absent"), ("IMAGE", "")],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_named(run: Run, image: str, name: str, value: str) -> None:
    done = run("image_edit.sh", "?", **({"IMAGE": image} | {name: value}))
    assert (done.returncode, done.stdout) == (2, "")
    assert name in done.stderr
    assert "jq" not in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_servers_refusal_is_shown(run: Run, tmp_path: Path, image: str, script: str) -> None:
    with FakeOpenAI(lambda _: refusal(400, "size: 5 is no multiple of 64")).running() as server:
        done = run(script, "?", url=server.url, IMAGE=image)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{script}: size: 5 is no multiple of 64\n"
    assert saved(tmp_path) == []


def test_an_error_in_the_stream(run: Run) -> None:
    failure = 'error: {"message": "no memory"}\ndata: {"error": {"code": 500, "message": "no memory"}}\n\n'
    with scripted(streamed_images(step(1), tail=[failure])).running() as server:
        done = run("image_generate.sh", "?", url=server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "image 1: 25%, step 1\nimage_generate.sh: no memory\n"


def test_a_stream_that_breaks_off_keeps_what_it_brought(run: Run, tmp_path: Path) -> None:
    with scripted(streamed_images(final(b"a"), tail=[])).running() as server:
        done = run("image_generate.sh", "?", url=server.url)
    assert done.returncode == 1
    assert "broke off" in done.stderr
    assert saved(tmp_path) == [b"a"]


def test_no_server(run: Run) -> None:
    done = run("image_generate.sh", "?")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr


def test_a_prompt_that_fails_is_no_reason_to_stop(run: Run) -> None:
    with scripted(refusal(503, "busy"), streamed_images(final())).running() as server:
        done = run("image_generate.sh", url=server.url, stdin="lost\nmade\n")
    assert done.returncode == 1, "one of them failed"
    assert "image_generate.sh: busy" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_line_of_progress_on_a_terminal(tmp_path: Path) -> None:
    """Each takes the place of the one before, and the last one goes."""
    with scripted(streamed_images(step(0), step(2), final())).running() as server:
        shown = on_terminal("stderr", "image_generate.sh", server.url, tmp_path)
    clear = "\r\x1b[K"
    *steps, figures = shown.split(clear)
    assert steps == ["", "image 1: 0%, step 0", "image 1: 50%, step 2", "image 1: 100%, step 4", ""]
    assert figures.startswith("1 image in ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_too_many_arguments(run: Run, script: str) -> None:
    done = run(script, "--help")
    assert (done.returncode, "@FILE.json" in done.stdout) == (0, True)
    assert run(script, "two", "prompts").returncode == 2
