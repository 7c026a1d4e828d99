"""Models from a hub: what is chosen, fetched, kept, and what is said when it cannot be had."""

import shutil
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants, hf_hub_download

from llamabox.models.download import Downloader
from llamabox.models.errors import ModelFileError
from llamabox.models.hub import HubUnreachable, Listing, Repository
from llamabox.models.source import HubName, ModelFiles, fetch_from_hub
from tests.models_files.fake_hub import COMMIT, FakeHub

NAME = "user/Tiny-GGUF"
WEIGHTS = b"GGUF" + b"weights" * 3000


class Fetch:
    def __init__(self, hub: FakeHub, downloader: Downloader, cache: Path) -> None:
        self.hub = hub
        self.downloader = downloader
        self.cache = cache
        self.endpoint = hub.url

    async def __call__(
        self,
        quant: str | None = None,
        file: str | None = None,
        *,
        name: str = NAME,
        token: str | None = None,
        projector: bool = False,
    ) -> ModelFiles:
        repository = Repository(name=name, token=token, endpoint=self.endpoint, cache=self.cache)
        return await fetch_from_hub(repository, quant, file, self.downloader, projector=projector)

    def snapshot(self, file: str, commit: str = COMMIT) -> Path:
        return self.cache / "models--user--Tiny-GGUF" / "snapshots" / commit / file


@pytest.fixture
def fetch(hub: FakeHub, downloader: Downloader, tmp_path: Path, monkeypatch) -> Fetch:
    hub.add(NAME, README__md=b"# hi", tiny_F16__gguf=b"GGUF16")
    hub.repos[NAME].files |= hub.add(
        "x/y", tiny_s_Q8_0__gguf=b"GGUF q8", Tiny_Q4_K_M__gguf=WEIGHTS, mmproj_F16__gguf=b"GGUF projector"
    ).files
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    return Fetch(hub, downloader, tmp_path / "cache")


async def test_the_usual_quantisation_is_fetched_into_the_hubs_cache(fetch: Fetch, hub: FakeHub):
    files = await fetch()
    assert files == ModelFiles(model=fetch.snapshot("Tiny_Q4_K_M.gguf"))
    assert files.model.read_bytes() == WEIGHTS
    # Nothing but the listing, the file and what is to be known about it: no telemetry.
    file = f"/{NAME}/resolve/{COMMIT}/Tiny_Q4_K_M.gguf"
    assert [(method, path) for method, path, _ in hub.asked] == [
        ("GET", f"/api/models/{NAME}"), ("HEAD", file), ("GET", file), ("HEAD", file),
    ]  # fmt: skip
    # Where the library finds it too, without asking.
    found = hf_hub_download(NAME, "Tiny_Q4_K_M.gguf", cache_dir=fetch.cache, local_files_only=True)
    assert Path(found) == files.model


async def test_what_is_there_is_not_fetched_again(fetch: Fetch, hub: FakeHub):
    await fetch()
    hub.asked.clear()
    await fetch()
    assert [(method, path) for method, path, _ in hub.asked] == [("GET", f"/api/models/{NAME}")]


@pytest.mark.parametrize(
    ("quant", "file", "model"),
    [("f16", None, "tiny_F16.gguf"), ("Q8_0", None, "tiny/Q8_0.gguf"), (None, "README.md", "README.md")],
)
async def test_the_choice(fetch: Fetch, quant: str | None, file: str | None, model: str):
    assert (await fetch(quant, file)).model == fetch.snapshot(model)


async def test_the_projector_comes_along_when_wanted(fetch: Fetch):
    files = await fetch(projector=True)
    assert files.projector == fetch.snapshot("mmproj_F16.gguf")
    assert files.projector.read_bytes() == b"GGUF projector"


async def test_all_parts_are_fetched(fetch: Fetch, hub: FakeHub):
    names = [f"big/m-Q4_K_M-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    repo = hub.add("user/Tiny-GGUF")
    for name in names:
        repo.files |= hub.add("x/y", a__gguf=b"GGUF " + name.encode()).files
        repo.files[name] = repo.files.pop("a.gguf")
    assert (await fetch()).model == fetch.snapshot(names[0])
    assert all(fetch.snapshot(name).read_bytes() == b"GGUF " + name.encode() for name in names)
    with pytest.raises(ModelFileError, match=rf"is not the first part: give {names[0]}"):
        await fetch(file=names[1])
    del repo.files[names[1]]
    with pytest.raises(ModelFileError, match=rf"lacks {names[1]}, without which {names[0]} is not whole"):
        await fetch()


async def test_broken_downloads_go_on_with_the_next_start(fetch: Fetch, hub: FakeHub, delays: list[float]):
    served = hub.repos[NAME].files["Tiny_Q4_K_M.gguf"]
    served.breaks = [5_000, *[0] * 6]
    with pytest.raises(ModelFileError, match=r"user/Tiny-GGUF/Tiny_Q4_K_M\.gguf: .* 5000 bytes are kept"):
        await fetch()
    assert (await fetch()).model.read_bytes() == WEIGHTS
    assert hub.gets(f"/{NAME}/resolve/{COMMIT}/Tiny_Q4_K_M.gguf")[-1]["Range"] == "bytes=5000-"
    blobs = list((fetch.cache / "models--user--Tiny-GGUF" / "blobs").iterdir())
    assert len(blobs) == 1


async def test_the_largest_files_are_left_to_the_library(fetch: Fetch, monkeypatch):
    monkeypatch.setattr("llamabox.models.hub.LARGEST_FILE", 10)
    monkeypatch.setattr(Downloader, "fetch", lambda *_: pytest.fail("fetched by us"))
    assert (await fetch()).model.read_bytes() == WEIGHTS


async def test_damage_is_noticed(fetch: Fetch, hub: FakeHub):
    hub.repos[NAME].files["Tiny_Q4_K_M.gguf"].headers = {"X-Linked-Etag": '"' + "0" * 64 + '"'}
    with pytest.raises(ModelFileError, match=r"user/Tiny-GGUF/Tiny_Q4_K_M\.gguf is damaged"):
        await fetch()


async def test_a_newer_commit_is_fetched(fetch: Fetch, hub: FakeHub):
    await fetch()
    newer = "f" * 40
    hub.repos[NAME].commit = newer
    hub.repos[NAME].files["Tiny_Q4_K_M.gguf"] = type(hub.repos[NAME].files["Tiny_Q4_K_M.gguf"])(b"GGUF newer")
    assert (await fetch()).model == fetch.snapshot("Tiny_Q4_K_M.gguf", newer)
    assert fetch.snapshot("Tiny_Q4_K_M.gguf", newer).read_bytes() == b"GGUF newer"


async def test_the_token_is_sent(fetch: Fetch, hub: FakeHub):
    hub.repos[NAME].token = "hf_right"
    assert (await fetch(token="hf_right")).model.read_bytes() == WEIGHTS
    with pytest.raises(
        ModelFileError, match=r"user/Tiny-GGUF is gated: accept its conditions at .*--hf-token or HF_TOKEN"
    ):
        await fetch(token="hf_wrong")
    with pytest.raises(ModelFileError, match="only ASCII characters"):
        await fetch(token="hf_ü")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ((401, "GatedRepo"), "is gated"),
        ((403, "GatedRepo"), "is gated"),
        ((401, ""), r"wants another token for user/Tiny-GGUF \(--hf-token, HF_TOKEN\), or has no such"),
        ((404, "RepoNotFound"), r"has no repository user/Tiny-GGUF"),
        ((403, ""), "refuses access to user/Tiny-GGUF"),
        ((404, "RevisionNotFound"), "has no branch main"),
        ((418, ""), "answers HTTP 418 for user/Tiny-GGUF"),
        ((500, ""), "answers HTTP 500; and none of its files is in the cache"),
        ((429, ""), "answers HTTP 429; and none"),
    ],
)
async def test_refusals_name_the_repository(fetch: Fetch, hub: FakeHub, error: tuple[int, str], message: str):
    hub.repos[NAME].error = error
    with pytest.raises(ModelFileError, match=message):
        await fetch()


async def test_what_is_not_in_the_repository(fetch: Fetch, hub: FakeHub):
    listed = r"there is: tiny_F16\.gguf, tiny/Q8_0\.gguf, Tiny_Q4_K_M\.gguf$"
    with pytest.raises(ModelFileError, match=f"no model with the quantisation Q2_K; {listed}"):
        await fetch("Q2_K")
    with pytest.raises(ModelFileError, match=rf"has no file x\.gguf; {listed}"):
        await fetch(file="x.gguf")
    hub.add(NAME, README__md=b"")
    with pytest.raises(ModelFileError, match="no model in GGUF form; there is: none"):
        await fetch()


async def test_a_hub_that_is_down_is_not_needed_for_what_is_here(
    fetch: Fetch, hub: FakeHub, caplog, delays: list[float]
):
    files = await fetch(projector=True)
    hub.repos[NAME].error = (503, "")
    assert await fetch(projector=True) == files
    assert "user/Tiny-GGUF cannot be asked for: " in caplog.text
    assert delays == []
    with pytest.raises(
        ModelFileError, match=r"answers HTTP 503; and in the cache: .* no model with the quantisation F16"
    ):
        await fetch("F16")


async def test_a_hub_that_hesitates_is_asked_again(fetch: Fetch, monkeypatch, delays: list[float]):
    answers = iter([HubUnreachable("wait"), HubUnreachable("wait")])
    real = Repository.listing

    def hesitant(repository: Repository) -> Listing:
        for error in answers:
            raise error
        return real(repository)

    monkeypatch.setattr(Repository, "listing", hesitant)
    assert (await fetch()).model.read_bytes() == WEIGHTS
    assert delays == [1.0, 4.0]


async def test_a_dead_hub(fetch: Fetch, monkeypatch):
    def refuse(*_args: object, **_options: object) -> None:
        raise httpx2.ConnectError("connection refused")

    monkeypatch.setattr("llamabox.models.hub.HfApi.model_info", refuse)
    with pytest.raises(
        ModelFileError, match=r"does not answer: connection refused; and none of its files is in the cache"
    ):
        await fetch()


async def test_offline_mode(fetch: Fetch, hub: FakeHub, monkeypatch):
    files = await fetch()
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert await fetch() == files
    assert hub.asked == []
    with pytest.raises(ModelFileError, match=r"cannot fetch u/m: offline mode, HF_HUB_OFFLINE; and none of its files"):
        await fetch(name="u/m")


async def test_too_little_room_is_said_before_anything_is_fetched(fetch: Fetch, hub: FakeHub, monkeypatch):
    usage = type("Usage", (), {"free": 3})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(ModelFileError, match=r"0 MiB free, what is missing of user/Tiny-GGUF needs 1 MiB"):
        await fetch()
    assert hub.gets(f"/{NAME}/resolve/{COMMIT}/Tiny_Q4_K_M.gguf") == []


async def test_a_cache_that_cannot_be_written_is_named(fetch: Fetch):
    fetch.cache.write_text("")
    with pytest.raises(ModelFileError, match="cannot write user/Tiny-GGUF to the cache"):
        await fetch()


async def test_an_answer_that_is_none(fetch: Fetch, hub: FakeHub, tmp_path: Path):
    hub.repos[NAME].files["Tiny_Q4_K_M.gguf"].headers = {"X-Linked-Etag": '"../../escape"'}
    with pytest.raises(ModelFileError, match="does not say what"):
        await fetch()
    with pytest.raises(ModelFileError, match="'a b/c' is no repository: expected user/model"):
        await fetch(name="a b/c")
    hub.repos[NAME].commit = ""
    with pytest.raises(ModelFileError, match="names no commit"):
        await fetch()


async def test_a_hub_that_ends_between_two_questions(fetch: Fetch, monkeypatch):
    def down(*_args: object) -> None:
        raise HubUnreachable("the hub does not answer")

    monkeypatch.setattr(Repository, "locate", down)
    with pytest.raises(ModelFileError, match=r"cannot fetch user/Tiny-GGUF/Tiny_Q4_K_M\.gguf: the hub does not answer"):
        await fetch()


@pytest.mark.parametrize(
    ("text", "name", "quant"), [("a/b", "a/b", None), ("a/b:Q4", "a/b", "Q4"), (" a/b ", "a/b", None)]
)
def test_names(text: str, name: str, quant: str | None):
    assert HubName.parse(text.strip()) == HubName(name, quant)


@pytest.mark.parametrize("text", ["", "a", "a/", "/b", "a/b/c", "a/b:", "a b/c", "ä/b", "a/b:c:d"])
def test_what_is_no_name(text: str):
    with pytest.raises(ValueError):  # noqa: PT011  # the caller names the option
        HubName.parse(text)
