"""An image model on another machine: whole, or only what is large of it. Images are the local ones, byte for byte."""

import re
import signal
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from tests.live.process import ServerProcess, serving
from tests.live.test_process import run
from tests.live.workers import LOOPBACK, LOST, Client, check_loss, client, free_port, worker
from tests.models.tiny_sd import TinySd

IMAGE = {"prompt": "a cat", "size": "256x256", "sample_steps": 2, "seed": 7, "sampler": "euler", "cfg_scale": 1}
WITH_LORA = IMAGE | {"lora": [{"id": 0, "scale": 1}]}
PARTS_HERE = ("--image-no-text-encoder-model-offload", "--image-no-vae-model-offload")


@attrs.frozen
class Images:
    """What a server makes in base64."""

    plain: str
    with_lora: str


def model_of(tiny: TinySd) -> tuple[str, ...]:
    """Two threads: what is loaded with them garbles the library's connection to a server."""
    return (
        "--images", "-m", str(tiny.model), "--image-taesd-model", str(tiny.taesd), "--image-lora", str(tiny.lora),
        "-t", "2", "-v",
    )  # fmt: skip


def image_of(url: str, body: dict[str, Any]) -> str:
    """The file in base64."""
    answer = httpx.post(f"{url}/v1/images/generations", json=body, timeout=100)
    assert answer.status_code == 200, answer.text
    image: str = answer.json()["data"][0]["b64_json"]
    return image


def check_images(url: str, expected: Images) -> None:
    """The LoRA first: it must leave nothing behind."""
    assert image_of(url, WITH_LORA) == expected.with_lora
    assert image_of(url, IMAGE) == expected.plain


def client_of(tiny: TinySd, endpoints: str, *more: str) -> Client:
    """A server whose image model one of the RPC servers computes."""
    return client(*model_of(tiny), "--rpc", endpoints, *more, holding=r"1 of \d")


@pytest.fixture(scope="module")
def local_images(tiny_sd: TinySd) -> Images:
    with serving(*model_of(tiny_sd)) as (_, url):
        images = Images(image_of(url, IMAGE), image_of(url, WITH_LORA))
    assert images.plain != images.with_lora
    return images


def places(server: ServerProcess) -> dict[str, str]:
    """Where the library says that each part's weights are: RAM is this machine's, VRAM the device's."""
    line = next(line for line in server.lines if "total params memory size" in line)
    return dict(re.findall(r"(text_encoders|diffusion_model|vae) [\d.]+MB\((\w+)\)", line))


def test_a_whole_model_on_another_machine_makes_the_same_images(tiny_sd: TinySd, local_images: Images) -> None:
    with worker("--images") as servant, client_of(tiny_sd, servant.endpoint) as (server, url):
        assert image_of(url, WITH_LORA) == local_images.with_lora
        body = IMAGE | {"sample_steps": 1000, "stream": True}
        with httpx.stream("POST", f"{url}/v1/images/generations", json=body, timeout=100) as reply:
            next(line for line in reply.iter_lines() if line.startswith("data: "))
        assert image_of(url, IMAGE) == local_images.plain, (
            "a client that leaves stops its image, and nothing stays of it, nor of the LoRA"
        )
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.log
        servant.process.signal(signal.SIGTERM)
        assert servant.process.wait() == 0, servant.process.log
    assert places(server) == {"text_encoders": "VRAM", "diffusion_model": "VRAM", "vae": "VRAM"}
    assert f"images are computed on RPC0 ({servant.endpoint})" in server.log
    assert "cannot be stopped" not in server.log
    assert "to image models" in servant.process.log
    assert "Traceback" not in server.log, server.log


def test_a_split_model_makes_the_same_images(tiny_sd: TinySd, local_images: Images) -> None:
    """The diffusion model on the second of two servers, the rest here."""
    with worker("--images") as idle, worker("--images") as servant:
        endpoints = f"{idle.endpoint},{servant.endpoint}"
        listed = run("--images", "--rpc", endpoints, "--list-devices").stdout.splitlines()
        assert [line.split(" (")[0] for line in listed[:2]] == [f"RPC0: {idle.endpoint}", f"RPC1: {servant.endpoint}"]
        assert listed[2].startswith("CPU: ")
        with client_of(tiny_sd, endpoints, "-ts", "0,1", *PARTS_HERE) as (server, url):
            check_images(url, local_images)
            # Idle now: the loss of the one that is in use is noticed, the other one's did not matter.
            idle.process.end()
            servant.process.signal(signal.SIGTERM)
            assert servant.process.wait() == 0, servant.process.log
            assert server.wait() == LOST, server.log
    assert places(server) == {"text_encoders": "RAM", "diffusion_model": "VRAM", "vae": "RAM"}
    assert f"images are computed on RPC1 ({servant.endpoint})" in server.log
    assert f"RPC server {servant.endpoint} is gone" in server.log
    assert "Traceback" not in server.log, server.log


def test_a_server_that_dies_over_an_image_ends_the_process(tiny_sd: TinySd) -> None:
    """With a message, an exit status of its own, and an error event."""
    with worker("--images") as servant, client_of(tiny_sd, servant.endpoint) as (server, url):
        body = IMAGE | {"sample_steps": 1000, "stream": True}
        with httpx.stream("POST", f"{url}/v1/images/generations", json=body, timeout=100) as reply:
            lines = reply.iter_lines()
            text = next(line for line in lines if line.startswith("data: "))
            servant.process.signal(signal.SIGKILL)
            text += "\n".join(lines)
        check_loss(server, servant, text)


def test_the_two_kinds_of_servers_are_told_apart(tiny_sd: TinySd, tiny_model: Path) -> None:
    image = ("--images", "-m", str(tiny_sd.model))
    with worker() as servant:
        answer = run(*image, "--rpc", servant.endpoint)
        assert answer.returncode == LOST
        assert f"--rpc: RPC server {servant.endpoint}: it speaks version 7." in answer.stderr
        assert "for image models it is started with --images" in answer.stderr
    with worker("--images") as servant:
        answer = run("-m", str(tiny_model), "--rpc", servant.endpoint)
        assert answer.returncode == LOST
        assert f"--rpc: RPC server {servant.endpoint}: it speaks version 3.6" in answer.stderr
        assert "or serves the image library" in answer.stderr
        answer = run(*image, "--rpc", servant.endpoint, "-ts", "0,1")
        assert answer.returncode == 2
        assert answer.stderr == "llama-box: -ts: 2 numbers for 1 devices (RPC0)\n"
    endpoint = f"{LOOPBACK}:{free_port()}"
    answer = run(*image, "--rpc", endpoint)
    assert answer.returncode == LOST
    assert answer.stderr == f"llama-box: --rpc: RPC server {endpoint}: cannot connect: Connection refused\n"
