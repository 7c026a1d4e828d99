"""One file over HTTP, by a server that breaks off, lies, forgets and refuses."""

import hashlib
import io
import shutil
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from llamabox.models.address import Remote
from llamabox.models.checksum import Checksum
from llamabox.models.download import Downloader
from llamabox.models.errors import ModelFileError
from llamabox.models.meter import _Lines
from llamabox.models.partial import Partial
from tests.models_files.file_server import FileServer, Served

CONTENT = b"GGUF" + bytes(range(256)) * 400
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())
PATH = "/m/model.gguf"


class Fetch:
    """Fetches PATH of a server to a place of its own."""

    def __init__(self, server: FileServer, downloader: Downloader, directory: Path) -> None:
        self.server = server
        self.downloader = downloader
        self.target = directory / "model.gguf"
        self.partial = Partial(directory / "model.gguf.partial")

    async def __call__(self, path: str = PATH, **changes: Any) -> Path:
        url = self.server.url + path
        await self.downloader.fetch(Remote(url=url, shown=url, **changes), self.target, self.partial)
        return self.target

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.server.gets(PATH)]

    def left(self) -> set[str]:
        return {path.name for path in self.target.parent.iterdir()}


@pytest.fixture
def fetch(server: FileServer, downloader: Downloader, tmp_path: Path) -> Fetch:
    return Fetch(server, downloader, tmp_path)


async def test_a_file_is_fetched_and_nothing_else_stays(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='"a"')
    assert (await fetch()).read_bytes() == CONTENT
    assert fetch.left() == {"model.gguf"}
    assert server.gets(PATH)[0]["Accept-Encoding"] == "identity"


async def test_broken_connections_go_on_where_they_broke(server: FileServer, fetch: Fetch, delays: list[float]):
    server.files[PATH] = Served(CONTENT, etag='"a"', breaks=[10_000, 5_000, 0, 20_000])
    assert (await fetch(checksum=SHA256)).read_bytes() == CONTENT
    assert fetch.ranges() == [None, "bytes=10000-", "bytes=15000-", "bytes=15000-", "bytes=35000-"]
    assert {headers.get("If-Range") for headers in server.gets(PATH)[1:]} == {'"a"'}
    assert delays == [1.0, 1.0, 2.0, 1.0]  # longer only while nothing comes


async def test_a_later_start_goes_on_too(server: FileServer, fetch: Fetch, delays: list[float]):
    server.files[PATH] = Served(CONTENT, last_modified="Mon, 05 Oct 2026 10:00:00 GMT", breaks=[10_000, *[0] * 6])
    with pytest.raises(ModelFileError, match=r"10000 bytes are kept, the next start goes on"):
        await fetch()
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert not fetch.target.exists()
    assert (await fetch()).read_bytes() == CONTENT
    assert fetch.ranges()[-1] == "bytes=10000-"
    assert server.gets(PATH)[-1]["If-Range"] == "Mon, 05 Oct 2026 10:00:00 GMT"


async def test_other_content_since_then_begins_anew(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='"old"', breaks=[10_000, *[0] * 6])
    with pytest.raises(ModelFileError):
        await fetch()
    other = b"GGUF" + b"other" * 5000
    server.files[PATH] = Served(other, etag='"new"')
    assert (await fetch()).read_bytes() == other


async def test_without_anything_to_recognise_it_by_nothing_is_resumed(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='W/"weak"', breaks=[10_000])
    assert (await fetch()).read_bytes() == CONTENT
    assert fetch.ranges() == [None, None]


async def test_a_checksum_is_enough_to_resume(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, breaks=[10_000])
    assert (await fetch(checksum=SHA256)).read_bytes() == CONTENT
    assert fetch.ranges() == [None, "bytes=10000-"]


async def test_a_server_that_cannot_resume_sends_all_again(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='"a"', ranges=False, breaks=[10_000])
    assert (await fetch()).read_bytes() == CONTENT


async def test_a_server_that_never_gets_further_is_given_up(server: FileServer, fetch: Fetch, delays: list[float]):
    server.files[PATH] = Served(CONTENT, etag='"a"', ranges=False, breaks=[10_000] * 20)
    with pytest.raises(ModelFileError, match=r"cannot fetch .*model\.gguf: .*10000 bytes are kept"):
        await fetch()
    assert len(delays) == 6


async def test_a_partial_file_that_is_complete_needs_no_more(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='"a"')
    fetch.partial.begin('"a"')
    fetch.partial.path.write_bytes(CONTENT)
    assert (await fetch()).read_bytes() == CONTENT


async def test_a_partial_file_that_is_too_long_begins_anew(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='"a"')
    fetch.partial.begin('"a"')
    fetch.partial.path.write_bytes(CONTENT + b"more")
    assert (await fetch()).read_bytes() == CONTENT


async def test_a_wrong_length_is_noticed(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, etag='"a"', length=len(CONTENT) + 10, breaks=[len(CONTENT)] * 2)
    assert (await fetch()).read_bytes() == CONTENT  # asked for the rest, the server says that there is none
    with pytest.raises(ModelFileError, match=f"the server sends {len(CONTENT) + 10} bytes, not {len(CONTENT)}"):
        await fetch(size=len(CONTENT))


async def test_damage_is_noticed_and_thrown_away(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT[:-1] + b"x", etag='"a"')
    with pytest.raises(ModelFileError, match=f"is damaged: .* expected {SHA256.digits}"):
        await fetch(checksum=SHA256)
    assert fetch.left() == set()


async def test_the_checksum_that_a_hub_names_counts(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(b"", redirect="/cdn/blob.gguf", headers={"X-Linked-ETag": f'"{SHA256.digits}"'})
    server.files["/cdn/blob.gguf"] = Served(CONTENT[:-1] + b"x")
    with pytest.raises(ModelFileError, match="is damaged"):
        await fetch()
    server.files["/cdn/blob.gguf"] = Served(CONTENT)
    assert (await fetch()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "access is refused"),
        (403, "access is refused"),
        (404, "there is no such file"),
        (410, "there is no such file"),
        (400, "HTTP 400"),
    ],
)
async def test_refusals_are_final(server: FileServer, fetch: Fetch, delays: list[float], status: int, reason: str):
    server.files[PATH] = Served(CONTENT, statuses=[status])
    with pytest.raises(ModelFileError, match=reason):
        await fetch()
    assert delays == []


async def test_a_busy_server_is_asked_again_when_it_says(server: FileServer, fetch: Fetch, delays: list[float]):
    server.files[PATH] = Served(CONTENT, statuses=[503, 429, 500], headers={"Retry-After": "7"})
    assert (await fetch()).read_bytes() == CONTENT
    assert delays == [7.0, 7.0, 7.0]


async def test_nobody_there(fetch: Fetch, delays: list[float], unused_port: int):
    fetch.server.url = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(ModelFileError, match="cannot fetch"):
        await fetch()
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_a_web_page_is_no_model(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(b"<!doctype html>" * 1000, etag='"a"')
    with pytest.raises(ModelFileError, match=r"model\.gguf is no GGUF file: it begins with b'<!doctyp'"):
        await fetch()
    assert fetch.partial.size == 0


async def test_compressed_content_is_refused(server: FileServer, fetch: Fetch):
    server.files[PATH] = Served(CONTENT, headers={"Content-Encoding": "gzip"})
    with pytest.raises(ModelFileError, match="compresses"):
        await fetch()


async def test_too_little_room_is_said_with_the_numbers(server: FileServer, fetch: Fetch, monkeypatch):
    usage = type("Usage", (), {"free": len(CONTENT) - 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    server.files[PATH] = Served(CONTENT)
    with pytest.raises(ModelFileError, match=r"has 0 MiB free, the rest of .*model\.gguf needs 1 MiB"):
        await fetch()
    assert fetch.partial.size == 0


async def test_what_came_before_a_cancellation_stays(server: FileServer, fetch: Fetch):
    served = server.files[PATH] = Served(CONTENT, etag='"a"')
    served.gate = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch)
        await trio.to_thread.run_sync(served.half_sent.wait)
        await _until(lambda: fetch.partial.path.exists())
        nursery.cancel_scope.cancel()
    served.gate.set()
    assert not fetch.target.exists()
    served.gate = None
    assert (await fetch()).read_bytes() == CONTENT


async def _until(true: Any) -> None:
    while not true():  # noqa: ASYNC110  # a file is no event
        await trio.sleep(0.01)


async def test_no_token_goes_to_another_host(server: FileServer, fetch: Fetch):
    port = server.url.rpartition(":")[2]
    server.files[PATH] = Served(b"", redirect=f"http://localhost:{port}/cdn/model.gguf")
    server.files["/cdn/model.gguf"] = Served(CONTENT)
    await fetch(headers={"Authorization": "Bearer secret"})
    assert server.gets(PATH)[0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in server.gets("/cdn/model.gguf")[0]


async def test_odd_protocols_and_endless_redirects_are_final(server: FileServer, fetch: Fetch, delays: list[float]):
    server.files[PATH] = Served(b"", redirect="ftp://127.0.0.1/x")
    with pytest.raises(ModelFileError, match="cannot fetch"):
        await fetch()
    server.files[PATH] = Served(b"", redirect=PATH)
    with pytest.raises(ModelFileError, match="cannot fetch"):
        await fetch()
    assert delays == []


async def test_encryption_is_not_given_up_unless_a_checksum_guards(tmp_path: Path):
    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT[:1000]
        yield CONTENT[1000:]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "https":
            return httpx2.Response(302, headers={"Location": "http://b.example/m.gguf"})
        return httpx2.Response(200, content=chunks())  # of no length that would be known

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), follow_redirects=True) as client:
        downloader, partial = Downloader(client), Partial(tmp_path / "p")
        remote = Remote(url="https://a.example/m.gguf", shown="m.gguf")
        with pytest.raises(ModelFileError, match=r"redirects to http://b\.example, which is not encrypted"):
            await downloader.fetch(remote, tmp_path / "m", partial)
        guarded = Remote(url=remote.url, shown="m.gguf", checksum=SHA256)
        await downloader.fetch(guarded, tmp_path / "m", partial)
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_git_checksums(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"hello\n")
    assert Checksum.of_etag("ce013625030ba8dba906f756967f9e9ca394464a").check(path, lambda: None) is None
    assert Checksum.of_etag("0" * 40).check(path, lambda: None) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert Checksum.of_etag("abc") is None
    assert Checksum.of_etag("x" * 64) is None


def test_lines_come_now_and_then(caplog: pytest.LogCaptureFixture):
    now = 0.0
    caplog.set_level("INFO")
    lines = _Lines("m.gguf", lambda: now)
    for now in (1.0, 9.9, 10.0, 11.0, 20.0):
        lines.show(int(now) * 2**20, 40 * 2**20)
    now = 30.0
    lines.show(30 * 2**20, None)
    assert caplog.messages == [
        "m.gguf: 10 of 40 MiB, 25%", "m.gguf: 20 of 40 MiB, 50%", "m.gguf: 30 MiB",
    ]  # fmt: skip


async def test_the_bar_shows_on_a_terminal(server: FileServer, fetch: Fetch, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    server.files[PATH] = Served(CONTENT, etag='"a"')
    await fetch()
    assert "model.gguf: 100%" in screen.getvalue()
