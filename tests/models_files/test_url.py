"""Models from URLs: where they are kept, when they are asked for again, and two processes at once."""

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from llamabox.models import url as urls
from llamabox.models.address import ModelUrl
from llamabox.models.download import Downloader
from llamabox.models.errors import ModelFileError
from llamabox.models.partial import Partial
from llamabox.models.url import fetch_url
from tests.models_files.file_server import FileServer, Served

CONTENT = b"GGUF" + b"weights" * 1000
DIGITS = hashlib.sha256(CONTENT).hexdigest()
PATH = "/m/model.gguf"


@pytest.mark.parametrize(
    "text",
    [
        "", "model.gguf", "ftp://a/m.gguf", "file:///m.gguf", "http://", "http:///m.gguf", "https://a:x/m", "http://a:0/",
        "http://a/m.gguf#sha256=12", "http://a/m.gguf#other", f"http://a/m-00001-of-00002.gguf#sha256={DIGITS}",
    ],
)  # fmt: skip
def test_what_is_no_url(text: str):
    with pytest.raises(ValueError):  # noqa: PT011  # the caller names the option
        ModelUrl.parse(text)


def test_a_url_and_its_checksum():
    url = ModelUrl.parse(f" https://user:secret@a.example:8443/x/My%20Model.gguf?sig=1#sha256={DIGITS.upper()} ")
    assert url.name == "My Model.gguf"
    assert url.checksum.digits == DIGITS
    remote = url.remote(url.name)
    assert remote.url == "https://user:secret@a.example:8443/x/My%20Model.gguf?sig=1"
    assert remote.shown == "https://a.example:8443/x/My%20Model.gguf"
    assert "secret" not in repr(url) + repr(remote)
    assert "sig" not in repr(url) + repr(remote)


@pytest.mark.parametrize("text", ["http://a", "http://a/", "http://a/..", "http://a/%2E%2E"])
def test_every_url_gives_a_name(text: str):
    assert ModelUrl.parse(text).name == "model.gguf"


def test_names_stay_in_their_directory():
    assert "/" not in ModelUrl.parse("http://a/%2Fetc%2Fpasswd").name


def test_places_differ_where_urls_do():
    texts = [
        "http://a/x/m.gguf",
        "http://b/x/m.gguf",
        "http://a/y/m.gguf",
        "http://a/x/m.gguf?v=2",
        "https://a/x/m.gguf",
    ]
    assert len({ModelUrl.parse(text).directory for text in texts}) == len(texts)
    assert ModelUrl.parse("http://u:p@a/x/m.gguf").directory == ModelUrl.parse(texts[0]).directory


@pytest.fixture
def url(server: FileServer) -> ModelUrl:
    server.files[PATH] = Served(CONTENT, etag='"a"')
    return ModelUrl.parse(server.url + PATH)


async def test_it_is_fetched_once(server: FileServer, url: ModelUrl, downloader: Downloader, tmp_path: Path):
    path = await fetch_url(url, downloader, tmp_path)
    assert path == tmp_path / url.directory / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert await fetch_url(url, downloader, tmp_path) == path
    assert [method for method, _, _ in server.asked] == ["GET", "HEAD"]


async def test_news_are_fetched(server: FileServer, url: ModelUrl, downloader: Downloader, tmp_path: Path):
    await fetch_url(url, downloader, tmp_path)
    server.files[PATH] = Served(b"GGUF, newer", etag='"b"')
    assert (await fetch_url(url, downloader, tmp_path)).read_bytes() == b"GGUF, newer"


@pytest.mark.parametrize("status", [404, 405, 500])
async def test_without_an_answer_the_old_one_does(
    server: FileServer, url: ModelUrl, downloader: Downloader, tmp_path: Path, caplog, status: int
):
    await fetch_url(url, downloader, tmp_path)
    server.files[PATH].head_status = status
    assert (await fetch_url(url, downloader, tmp_path)).read_bytes() == CONTENT
    assert f"cannot be asked for news (HTTP {status})" in caplog.text


async def test_a_checksum_needs_no_question(server: FileServer, url: ModelUrl, downloader: Downloader, tmp_path: Path):
    known = ModelUrl.parse(f"{server.url}{PATH}#sha256={DIGITS}")
    await fetch_url(url, downloader, tmp_path)
    await fetch_url(known, downloader, tmp_path)  # was not checked yet
    asked = len(server.asked)
    await fetch_url(known, downloader, tmp_path)
    assert len(server.asked) == asked
    with pytest.raises(ModelFileError, match="damaged"):
        await fetch_url(ModelUrl.parse(f"{server.url}{PATH}#sha256={'0' * 64}"), downloader, tmp_path)


async def test_a_file_that_somebody_changed_is_fetched_anew(
    server: FileServer, url: ModelUrl, downloader: Downloader, tmp_path: Path
):
    path = await fetch_url(url, downloader, tmp_path)
    path.write_bytes(b"GGUF")
    assert (await fetch_url(url, downloader, tmp_path)).read_bytes() == CONTENT
    (path.parent / "model.gguf.json").write_text("[]")
    assert (await fetch_url(url, downloader, tmp_path)).read_bytes() == CONTENT
    assert len(server.gets(PATH)) == 3


async def test_all_parts_are_fetched(server: FileServer, downloader: Downloader, tmp_path: Path):
    names = [f"m-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    for name in names:
        server.files[f"/m/{name}"] = Served(b"GGUF " + name.encode(), etag=f'"{name}"')
    path = await fetch_url(ModelUrl.parse(f"{server.url}/m/{names[0]}"), downloader, tmp_path)
    assert path.name == names[0]
    assert all((path.parent / name).read_bytes() == b"GGUF " + name.encode() for name in names)
    del server.files[f"/m/{names[2]}"]
    with pytest.raises(ModelFileError, match=rf"cannot fetch .*/other/{names[0]}: there is no such file"):
        await fetch_url(ModelUrl.parse(f"{server.url}/other/{names[0]}"), downloader, tmp_path)


async def test_a_directory_that_cannot_be_written_is_named(url: ModelUrl, downloader: Downloader, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match=rf"cannot write {tmp_path}/file/"):
        await fetch_url(url, downloader, tmp_path / "file")


async def test_a_disk_that_fills_up_meanwhile_is_named(
    url: ModelUrl, downloader: Downloader, tmp_path: Path, monkeypatch
):
    @contextmanager
    def full(_partial: Partial) -> Iterator[io.FileIO]:
        with Path("/dev/full").open("ab", buffering=0) as file:
            yield file

    with monkeypatch.context() as patch:
        patch.setattr(Partial, "append", full)
        with pytest.raises(ModelFileError, match=rf"cannot write {tmp_path}/\w+: No space left on device"):
            await fetch_url(url, downloader, tmp_path)
    assert (await fetch_url(url, downloader, tmp_path)).read_bytes() == CONTENT


def test_the_users_cache_is_the_default(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(urls.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    assert urls.default_directory() == tmp_path / "llama-box" / "urls"


async def test_who_waits_for_the_lock_can_be_stopped(url: ModelUrl, downloader: Downloader, tmp_path: Path, caplog):
    caplog.set_level("INFO")
    directory = tmp_path / url.directory
    directory.mkdir()
    async with urls.locked(directory / "model.gguf.lock", "model.gguf"), trio.open_nursery() as nursery:
        nursery.start_soon(fetch_url, url, downloader, tmp_path)
        while "waiting for another process" not in caplog.text:  # noqa: ASYNC110  # a log line is no event
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not (directory / "model.gguf").exists()


CHILD = """
import sys, trio
from pathlib import Path
from llamabox.models.address import ModelUrl
from llamabox.models.download import Downloader, new_client
from llamabox.models.partial import Partial
from llamabox.models.url import fetch_url

async def main():
    async with new_client() as client:
        path = await fetch_url(ModelUrl.parse(sys.argv[1]), Downloader(client), Path(sys.argv[2]))
        print(path.stat().st_ino, flush=True)

trio.run(main)
"""


def test_two_processes_at_once_fetch_once(server: FileServer, url: ModelUrl, tmp_path: Path):
    """One holds the lock while its download hangs; the other, started then, finds the complete file."""
    served = server.files[PATH]
    served.gate = threading.Event()
    command = [sys.executable, "-c", CHILD, server.url + PATH, str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) for _ in range(2)]
    try:
        assert served.half_sent.wait(60)
        served.gate.set()
        answers = {child.communicate(timeout=60)[0] for child in children}
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
    assert len(answers) == 1
    assert len(server.gets(PATH)) == 1
