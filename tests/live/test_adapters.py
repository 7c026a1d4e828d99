"""A server with LoRA adapters and slot files, as its users see it: over HTTP, and over a restart."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from tests.live.process import launch, serving
from tests.models.tiny_adapters import write_tiny_lora

GREEDY = {"temperature": 0, "ignore_eos": True, "n_predict": 12, "return_tokens": True, "n_probs": 2}
TIE = 0.6  # cells in other places, and batches of other sizes, move logits by this much: see test_agreement
STORY = "they have not been there for all of the time that we can use, and each of them was with this one "
SETS: tuple[list[dict[str, float]], ...] = (
    [{"id": 0, "scale": 1}],
    [{"id": 1, "scale": 0.7}],
    [{"id": 0, "scale": 0.5}, {"id": 1, "scale": -1}],
    [{"id": 0, "scale": 0}],
)


@attrs.frozen
class Home:
    """The files of a server, and its arguments."""

    slots: Path
    arguments: tuple[str, ...]


@pytest.fixture(scope="module")
def home(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("home")
    slots = folder / "slots"
    slots.mkdir()
    a, b = (str(write_tiny_lora(folder / f"{seed}.gguf", seed=seed)) for seed in (1, 2))
    arguments = ("-m", str(tiny_model), "-np", "4", "-c", "2048", "-t", "1", "--slots", "--slot-save-path", str(slots),
                 "--lora", a, "--lora-scaled", b, "0.7", "--lora-init-without-apply")  # fmt: skip
    return Home(slots, arguments)


@pytest.fixture(scope="module")
def client(home: Home) -> Iterator[httpx.Client]:
    with serving(*home.arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def complete(client: httpx.Client, prompt: str | list[int], **fields: Any) -> dict[str, Any]:
    reply = client.post("/completion", json={"prompt": prompt, **GREEDY, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def assert_agree(alone: dict[str, Any], other: dict[str, Any]) -> None:
    """The same text, up to the first place where the two best candidates were practically equal."""
    for info, a, b in zip(alone["completion_probabilities"], alone["tokens"], other["tokens"], strict=True):
        if a != b:
            best, second = info["top_logprobs"]
            assert best["logprob"] - second["logprob"] < TIE, "the texts part where there was no tie"
            assert b == second["id"]
            return


def act(client: httpx.Client, slot: int, action: str, name: str) -> httpx.Response:
    return client.post(f"/slots/{slot}", params={"action": action}, json={"filename": name})


def test_requests_with_different_adapters_at_once_are_what_they_are_alone(client: httpx.Client) -> None:
    wanted: list[list[dict[str, float]] | None] = [*SETS, None]
    alone = [complete(client, STORY, lora=lora, cache_prompt=False) for lora in wanted]
    assert len({tuple(reply["tokens"][:6]) for reply in alone}) == len(wanted) - 1, "each set writes something else"
    assert alone[-1]["tokens"] == alone[-2]["tokens"], "the scale 0 is no adapter"
    with ThreadPoolExecutor(2 * len(wanted)) as pool:
        together = pool.map(lambda lora: complete(client, STORY, lora=lora), [*wanted, *wanted])
        for one, other in zip([*alone, *alone], together, strict=True):
            assert_agree(one, other)


def test_scales_change_while_it_runs(client: httpx.Client) -> None:
    assert [entry["scale"] for entry in client.get("/lora-adapters").json()] == [0, 0]
    lora = [{"id": 1, "scale": 0.7}]
    assert client.post("/lora-adapters", json=lora).json() == {"success": True}
    reply = complete(client, STORY)
    assert_agree(complete(client, STORY, lora=lora), reply)
    assert reply["generation_settings"]["lora"] == lora
    assert client.post("/lora-adapters", json=[]).json() == {"success": True}
    assert complete(client, STORY)["tokens"] != reply["tokens"]


def test_saved_slots_survive_a_restart(home: Home, client: httpx.Client) -> None:
    story = client.post("/tokenize", json={"content": STORY, "add_special": True}).json()["tokens"]
    saved, going_on, expected = {}, {}, {}
    for slot, lora in ((2, SETS[0]), (3, [])):
        first = complete(client, story, id_slot=slot, lora=lora)
        reply = act(client, slot, "save", f"{slot}.bin")
        assert reply.status_code == 200, reply.text
        saved[slot] = reply.json()
        assert saved[slot]["n_saved"] == len(story) + len(first["tokens"]) - 1, "the last token was never computed"
        assert saved[slot]["n_written"] == (home.slots / f"{slot}.bin").stat().st_size
        going_on[slot] = [*story, *first["tokens"], story[-1]]
        expected[slot] = complete(client, going_on[slot], lora=lora)
    with serving(*home.arguments) as (_, url), httpx.Client(base_url=url, timeout=60) as fresh:
        for slot, to, lora in ((2, 0, SETS[0]), (3, 1, [])):
            restored = act(fresh, to, "restore", f"{slot}.bin").json()
            assert (restored["n_restored"], restored["n_read"]) == (saved[slot]["n_saved"], saved[slot]["n_written"])
            assert fresh.get("/slots").json()[to]["n_past"] == saved[slot]["n_saved"]
            reply = complete(fresh, going_on[slot], lora=lora)
            assert_agree(expected[slot], reply)
            assert reply["timings"]["cache_n"] == saved[slot]["n_saved"], "nothing of it is computed again"
            assert reply["id_slot"] == to, "the slot that remembers it"
        other = complete(fresh, going_on[2], lora=SETS[1])
        assert other["timings"]["cache_n"] == 0, "cells of one set are of no use to another"


def test_a_damaged_file_changes_nothing(home: Home, client: httpx.Client) -> None:
    complete(client, STORY, id_slot=3)
    assert act(client, 3, "save", "whole.bin").status_code == 200
    data = (home.slots / "whole.bin").read_bytes()
    before = client.get("/slots").json()[0]["n_past"]
    damaged = home.slots / "damaged.bin"
    cuts = [*range(0, len(data), 1024), len(data) - 1]
    flips = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), len(data) // 12)]
    for content in [*(data[:cut] for cut in cuts), *flips, data + b"\0"]:
        damaged.write_bytes(content)
        reply = act(client, 0, "restore", "damaged.bin")
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["param"] == "filename"
    assert client.get("/slots").json()[0]["n_past"] == before
    assert act(client, 0, "restore", "whole.bin").json()["n_restored"] > 0


def test_an_erased_slot_is_computed_again(client: httpx.Client) -> None:
    prompt = "unlike anything before: " + STORY
    first = complete(client, prompt, id_slot=1)
    assert complete(client, prompt, id_slot=1)["timings"]["cache_n"] > 0
    assert client.post("/slots/1?action=erase").json()["n_erased"] >= first["tokens_evaluated"]
    assert complete(client, prompt, id_slot=1)["timings"]["cache_n"] < first["tokens_evaluated"] // 2
    assert client.get("/slots").status_code == 200


def test_a_wrong_adapter_fails_the_start_by_name(tiny_model: Path, tmp_path: Path) -> None:
    lora = write_tiny_lora(tmp_path / "other.gguf", architecture="qwen2")
    server = launch("-m", str(tiny_model), "--port", "0", "--lora", str(lora))
    assert server.wait() == 1
    assert f"cannot load the LoRA {lora}" in server.log
    assert "arch mismatch" in server.log
    assert "Traceback" not in server.log
