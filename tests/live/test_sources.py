"""The real server on models that it fetches first: from a hub, from a URL, and stopped on the way."""

import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gguf
import httpx
import pytest

from tests.live.process import environment, launch, serving
from tests.models.tiny_llm import write_tiny_llm
from tests.models.tiny_mmproj import write_tiny_mmproj
from tests.models_files.fake_hub import FakeHub, fake_hub
from tests.models_files.file_server import Served


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[FakeHub]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", partial(gguf.GGUFWriter, split_max_tensors=9))
        write_tiny_llm(tmp_path / "tiny-Q8_0.gguf")
    parts = {path.name: Served(path.read_bytes()) for path in sorted(tmp_path.glob("*-of-*.gguf"))}
    assert len(parts) == 3
    projector = write_tiny_mmproj(tmp_path / "projector.gguf")
    with fake_hub() as running:
        content = tiny_model.read_bytes()
        running.add("test/tiny", README__md=b"", tiny_Q4_K_M__gguf=content, mmproj__gguf=projector.read_bytes())
        running.repos["test/tiny"].files |= parts
        running.files["/m/tiny.gguf"] = Served(content, etag='"1"')
        yield running


@pytest.fixture
def env(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    return environment(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"), XDG_CACHE_HOME=str(tmp_path / "cache"))


def complete(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/completions", json={"prompt": "the", "max_tokens": 4}, timeout=60)


def test_a_model_in_parts_from_a_hub_answers_and_later_without_the_hub(hub: FakeHub, env: dict[str, str]):
    arguments = ("-hfr", "test/tiny:q8_0", "-c", "256", "--no-warmup")
    with serving(*arguments, env=env) as (server, url):
        assert complete(url).json()["usage"]["completion_tokens"] == 4
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "test/tiny:q8_0"
        assert "fetching test/tiny/tiny-Q8_0-00003-of-00003.gguf" in server.log
        assert httpx.get(f"{url}/props").json()["modalities"]["vision"] is True  # the projector came along
    hub.asked.clear()
    with serving(*arguments, env=env | {"HF_HUB_OFFLINE": "1"}) as (server, url):
        assert complete(url).status_code == 200
        assert "offline mode" in server.log
    assert hub.asked == []


def test_a_download_that_is_stopped_goes_on_later(hub: FakeHub, env: dict[str, str]):
    served = hub.files["/m/tiny.gguf"]
    served.gate = threading.Event()
    arguments = ("-mu", f"{hub.url}/m/tiny.gguf", "-c", "256", "--no-warmup")
    server = launch("--port", "0", *arguments, env=env)
    try:
        url = server.wait_for(r"listening on (\S+)")[1]
        assert served.half_sent.wait(60)
        answer = httpx.get(f"{url}/health", timeout=60)
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "Loading model")
        server.signal(signal.SIGINT)
        assert server.wait() == 0, server.log
        assert "Traceback" not in server.log
    finally:
        server.end()
    served.gate.set()
    hub.files["/m/tiny.gguf"] = Served(served.content, etag=served.etag, breaks=[100_000])
    with serving(*arguments, env=env) as (server, url):
        assert complete(url).status_code == 200
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "tiny"
        assert "trying again in 1 s" in server.log
    assert hub.gets("/m/tiny.gguf")[-1]["Range"].startswith("bytes=")


def test_what_cannot_be_had_ends_the_server(hub: FakeHub, env: dict[str, str]):
    server = launch("--port", "0", "-hfr", "test/tiny:Q2_K", env=env)
    assert server.wait() == 1
    assert (
        "test/tiny has no model with the quantisation Q2_K; there is: tiny_Q4_K_M.gguf, tiny-Q8_0-00001-of-00003.gguf"
        in server.log
    )
    assert "Traceback" not in server.log
