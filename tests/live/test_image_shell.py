"""A server that makes images only: the shell tools, and what it shows of itself meanwhile."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest

from llamabox.images.encode import encode_image
from tests.images.asking import gradient
from tests.live.process import ServerProcess, serving
from tests.models.tiny_sd import TinySd

TOOLS = Path(__file__).parent.parent.parent / "tools"
SETTINGS = {"SIZE": "256x256", "SAMPLE_STEPS": "2", "SEED": "7", "SAMPLER": "euler", "CFG_SCALE": "1"}

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(tiny_sd: TinySd) -> Iterator[tuple[ServerProcess, str]]:
    """The server and its URL. It is given flags of text too."""
    with serving(
        "--images", "-m", str(tiny_sd.model), "--image-taesd-model", str(tiny_sd.taesd), "--slots",
        "--image-niceness", "0", "-np", "4", "--temp", "0.5", "--seed", "11", "--image-vae-tiling",
    ) as started:  # fmt: skip
        yield started


@pytest.fixture
def run(server: tuple[ServerProcess, str], tmp_path: Path) -> Run:
    if missing := [name for name in ("bash", "curl", "jq", "base64") if shutil.which(name) is None]:
        pytest.skip(f"NOT TESTED: {', '.join(missing)} not installed")

    def run_tool(script: str, *words: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TOOLS / script, *words], env={**os.environ, "API_URL": server[1], **SETTINGS, **settings}, cwd=tmp_path,
            input=stdin, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    return run_tool


def parameters(path: Path) -> str:
    with PIL.Image.open(path) as image:
        assert image.size == (256, 256)
        return str(image.info["parameters"])


def test_images_from_a_prompt(run: Run, tmp_path: Path) -> None:
    done = run("image_generate.sh", "a cat", N="2", PREVIEW="faster", NEGATIVE_PROMPT="a dog")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / name for name in done.stdout.splitlines())
    assert parameters(first).startswith("a cat\nNegative prompt: a dog\nSteps: 2, CFG scale: 1, Guidance: 3.5, Seed: 7")
    assert "Seed: 8, Size: 256x256" in parameters(second)
    assert first.read_bytes() != second.read_bytes()
    previews = sorted(tmp_path.glob("image-*-step-1.png"))
    assert len(previews) == 2
    with PIL.Image.open(previews[0]) as preview:
        assert preview.size == (32, 32)
    assert re.search(
        r"^2 images in [0-9.]+ s; encoding [0-9.]+ ms, [0-9.]+ ms a step, [0-9.]+ steps/s$", done.stderr, re.MULTILINE
    )


def test_prompts_a_line(run: Run, tmp_path: Path) -> None:
    done = run("image_generate.sh", stdin="a cat\n(a:.)\na dog\n")
    assert done.returncode == 1, "one of them is no prompt"
    assert "image_generate.sh: the prompt has the weight '.'" in done.stderr
    assert [parameters(tmp_path / name).splitlines()[0] for name in done.stdout.splitlines()] == ["a cat", "a dog"]


def test_an_image_is_edited(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(encode_image(gradient()))
    (tmp_path / "mask.png").write_bytes(encode_image(gradient()))
    plain = run("image_edit.sh", "a hat", IMAGE="in.png", STRENGTH="0.5")
    masked = run("image_edit.sh", "a hat", IMAGE="in.png", MASK="mask.png", STRENGTH="0.5")
    assert (plain.returncode, masked.returncode) == (0, 0), plain.stderr + masked.stderr
    one, other = (tmp_path / done.stdout.strip() for done in (plain, masked))
    assert parameters(one).startswith("a hat\n")
    assert one.read_bytes() != other.read_bytes()


def test_the_servers_refusal_is_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(encode_image(gradient()))
    done = run("image_edit.sh", "a hat", IMAGE="in.png", CONTROL="in.png")
    assert done.returncode == 1
    assert "--image-control-net-model" in done.stderr


def test_a_running_image_is_shown(server: tuple[ServerProcess, str]) -> None:
    process, url = server
    with httpx.Client(base_url=url, timeout=100) as client:
        props = client.get("/props").json()
        assert (props["total_slots"], props["model_alias"]) == (1, "tiny-sd")
        assert props["images"]["default_generation_settings"] == props["default_generation_settings"]["params"]
        body = {"prompt": "a cat", "size": "256x320", "stream": True, "sample_steps": 500, "seed": 3}
        with client.stream("POST", "/v1/images/generations", json=body) as reply:
            steps = (json.loads(line[6:])["data"][0] for line in reply.iter_lines() if line.startswith("data: {"))
            assert next(step["progressed_steps"] for step in steps) == 0
            (slot,) = httpx.get(f"{url}/slots").json()
        assert slot["image"]["steps"] == 500
        assert (slot["image"]["seed"], slot["image"]["width"], slot["image"]["height"]) == (3, 256, 320)
        varied = client.post(
            "/v1/images/variations", files={"image": encode_image(gradient())},
            data={"size": "256x256", "sample_steps": "1"},
        )  # fmt: skip
        assert varied.status_code == 200, varied.text
        (slot,) = client.get("/slots").json()
        assert (slot["is_processing"], slot["image"]) == (False, None)
    process.wait_for(r"image 1 of 1: 256x256, seed 11, 1 steps in [0-9.]+ s after [0-9.]+ s of encoding")
    assert "WARNING  cli.serve without effect: -np --temp: the only model makes images" in process.log
