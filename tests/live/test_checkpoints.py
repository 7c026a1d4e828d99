"""Prompts of models whose KV cache cannot be cut come back from host memory: a real server, two kinds of models."""

from pathlib import Path

import httpx
import pytest

from engine.errors import ModelLoadError
from engine.native.options import ContextOptions, ModelOptions
from engine.text.options import EngineOptions
from engine.text.start import start_text_engine
from tests.live.process import serving
from tests.live.test_adapters import assert_agree
from tests.live.test_host_cache import complete, metrics, tokens_of
from tests.live.test_media import ask, chat, counter, image, said
from tests.models.pictures import data_url, png
from tests.models.tiny_llm import write_tiny_llm
from tests.models.tiny_mmproj import write_tiny_mmproj

STORY = "there were some of them who have been with us at that time and all the others " * 40
KINDS = {"window": {"sliding_window": 32}, "recurrent": {"recurrent": True}}


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_go_on_where_they_were(kind: str, tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "model.gguf", **KINDS[kind])
    arguments = ("-m", str(path), "-np", "2", "-c", "4096", "-t", "1", "--metrics", "--verbosity", "5")
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        story = tokens_of(client, STORY)
        prompt = story[:500]
        first = complete(client, prompt)
        turn = [*prompt, *first["tokens"], *story[:40]]
        fresh = complete(client, turn, cache_prompt=False)
        assert fresh["timings"]["cache_n"] == 0
        other = complete(client, [*story[7:400], *story[:60]])
        assert other["timings"]["cache_n"] == 0
        again = complete(client, turn)
        assert again["timings"]["cache_n"] == len(prompt) + len(first["tokens"]) - 1
        assert_agree(fresh, again)
        branch = [*prompt[:-4], *story[3:60]]
        fresh = complete(client, branch, cache_prompt=False)
        again = complete(client, branch)
        assert again["timings"]["cache_n"] == len(prompt) - 16
        assert_agree(fresh, again)
        figures = metrics(client)
        assert figures["llamabox:host_cache_restored_tokens_total"] > 900
        assert figures["llamabox:host_cache_bytes"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_about_an_image_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    path, projector = write_tiny_llm(tmp_path / "model.gguf", **KINDS[kind]), write_tiny_mmproj(tmp_path / "eye.gguf")
    arguments = ("-m", str(path), "--mmproj", str(projector), "-np", "2", "-c", "4096", "-t", "1", "--metrics")
    with serving(*arguments, "--verbosity", "5") as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        body = ask(STORY[:400], image(data_url(png(1))), "what is this")
        first = chat(client, body)
        body["messages"] += [{"role": "assistant", "content": said(first)}, {"role": "user", "content": "and why"}]
        fresh = chat(client, {**body, "cache_prompt": False})
        encoded = counter(client, "media_encoded_total")
        again = chat(client, body)
        assert said(again) == said(fresh)
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > first["usage"]["prompt_tokens"] - 20
        assert counter(client, "media_encoded_total") == encoded == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_file_outlives_the_server(kind: str, tmp_path: Path) -> None:
    path, folder = write_tiny_llm(tmp_path / "model.gguf", **KINDS[kind]), tmp_path / "slots"
    folder.mkdir()
    arguments = ("-m", str(path), "-np", "2", "-c", "4096", "-t", "1", "--slots", "--slot-save-path", str(folder))
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        story = tokens_of(client, STORY)
        prompt = story[:500]
        first = complete(client, prompt, id_slot=1)
        left = len(prompt) + len(first["tokens"]) - 1
        reply = client.post("/slots/1?action=save", json={"filename": "talk"}).raise_for_status().json()
        assert reply["n_saved"] == left
        turn = [*prompt, *first["tokens"], *story[:40]]
        fresh = complete(client, turn, cache_prompt=False)
    with serving(*arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        reply = client.post("/slots/0?action=restore", json={"filename": "talk"}).raise_for_status().json()
        assert reply["n_restored"] == left
        again = complete(client, turn)
        assert again["timings"]["cache_n"] == left
        assert_agree(fresh, again)
        assert client.post("/slots/0?action=erase").raise_for_status().json()["n_erased"] >= left


@pytest.mark.parametrize("kind", KINDS)
def test_without_memory_for_them_they_are_computed_anew(kind: str, tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "model.gguf", **KINDS[kind])
    arguments = ("-m", str(path), "-np", "2", "-c", "2048", "-t", "1", "--cache-ram", "0")
    with serving(*arguments) as (server, url), httpx.Client(base_url=url, timeout=60) as client:
        prompt = tokens_of(client, STORY)[:300]
        assert complete(client, prompt)["timings"]["cache_n"] == 0
        assert complete(client, prompt)["timings"]["cache_n"] == 0
        assert "no prompt is reused" in server.log


def test_a_full_window_takes_two_of_the_librarys_numbers_for_each_slot(tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "model.gguf", sliding_window=32)
    context = ContextOptions(n_ctx=4096, n_batch=512, swa_full=True)
    wanted = EngineOptions(model=ModelOptions(path=str(path)), context=context, n_parallel=129)
    with pytest.raises(ModelLoadError, match="at most 128 slots"):
        start_text_engine(wanted, lambda batch: None)
