"""One file over HTTP: resumed where it broke off, checked, and put in place in one step."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Final

import attrs
import httpx2
import trio

from llamabox.models.address import Remote
from llamabox.models.checksum import Checksum
from llamabox.models.errors import ModelFileError
from llamabox.models.files import check_room
from llamabox.models.meter import Meter, metered
from llamabox.models.partial import Partial

log = logging.getLogger(__name__)

_BLOCK: Final = 1024 * 1024  # bytes that are written at once
_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before the tries that follow each other without any byte
_MOST_DELAY: Final = 60.0  # what a server may ask for
# What may be over with the next try.
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAGIC: Final = b"GGUF"
_SHA256_HEADER: Final = "X-Linked-ETag"  # where a hub redirects, its own answer names the content so


@attrs.frozen
class Fetched:
    """``validator`` is what the server names the content by: an ETag or a date; None: it does not."""

    size: int
    validator: str | None


class _Broken(Exception):
    """The connection or the server failed for now. ``delay``: seconds that the server asks to wait."""

    def __init__(self, reason: str, delay: float = 0.0) -> None:
        super().__init__(reason)
        self.delay = delay


def new_client() -> httpx2.AsyncClient:
    """A client with the proxies of the environment; follows redirects, and hands no token to another host."""
    # It would log whole URLs, and so what is secret in them.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return httpx2.AsyncClient(
        follow_redirects=True,
        timeout=httpx2.Timeout(30.0, connect=15.0),
        # Compressed, a part would be no part of the file.
        headers={"Accept-Encoding": "identity", "User-Agent": f"llama-box/{version('llama-box')}"},
    )


@attrs.define
class Downloader:
    """Fetches files, one after the other. ``pause`` waits a number of seconds."""

    client: httpx2.AsyncClient
    pause: Callable[[float], Awaitable[None]] = trio.sleep

    async def fetch(self, remote: Remote, target: Path, partial: Partial) -> Fetched:
        """Make ``target`` of the remote file; it appears under its name only once it is complete and checked.

        What has come stays in ``partial``, whether the connection breaks, the process is killed or the caller
        cancelled, and the next call goes on behind it, provided that the server still has the same content. Broken
        connections are tried again. Raises ModelFileError, OSError where the disk cannot be written.
        """
        tries = 0
        with metered(target.name if not remote.addressed else remote.shown.rsplit("/", 1)[-1]) as meter:
            while True:
                before = partial.size
                try:
                    fetched, checksum = await self._attempt(remote, partial, meter)
                    break
                except _Broken as broken:
                    if partial.size > before:
                        tries = 0
                    if tries >= len(_DELAYS):
                        raise ModelFileError(
                            f"cannot fetch {remote.shown}: {broken}; {partial.size} bytes are kept, the next start "
                            "goes on behind them"
                        ) from None
                    delay = min(max(_DELAYS[tries], broken.delay), _MOST_DELAY)
                    tries += 1
                    log.warning("%s: %s, trying again in %g s", remote.shown, broken, delay)
                    await self.pause(delay)
        await _settle(remote, partial, target, checksum)
        return fetched

    async def validator(self, remote: Remote) -> str | None:
        """What the server names the content by right now. Raises ModelFileError where it does not say."""
        try:
            response = await self.client.head(remote.url, headers=dict(remote.headers), timeout=10.0)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ModelFileError(_reason(error)) from None
        if response.status_code != HTTPStatus.OK:
            raise ModelFileError(f"HTTP {response.status_code}")
        return _validator(response)

    async def _attempt(self, remote: Remote, partial: Partial, meter: Meter) -> tuple[Fetched, Checksum | None]:
        if partial.size and not _may_resume(remote, partial):
            partial.begin(None)
        at, headers = partial.size, dict(remote.headers)
        if at and at == remote.size:
            return Fetched(at, partial.validator), remote.checksum
        if at:
            headers["Range"] = f"bytes={at}-"
            if not remote.addressed and partial.validator is not None:
                headers["If-Range"] = partial.validator
        try:
            async with self.client.stream("GET", remote.url, headers=headers) as response:
                _check_scheme(remote, response)
                total = _begin(remote, partial, response, at)
                if total is not None and total == partial.size:
                    return Fetched(total, partial.validator), _checksum(remote, response)
                if total is not None:
                    check_room(partial.path.parent, total - partial.size, f"the rest of {remote.shown}")
                await _receive(response, remote, partial, total, meter)
                return Fetched(partial.size, partial.validator), _checksum(remote, response)
        except httpx2.InvalidURL as error:
            raise ModelFileError(f"cannot fetch {remote.shown}: {error}") from None
        except (httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise ModelFileError(f"cannot fetch {remote.shown}: {_reason(error)}") from None
        except httpx2.HTTPError as error:
            raise _Broken(_reason(error)) from None


def _check_scheme(remote: Remote, response: httpx2.Response) -> None:
    """A redirect from https to http would let anybody on the way choose the model, if nothing checks it."""
    if remote.url.startswith("https:") and response.url.scheme != "https" and remote.checksum is None:
        raise ModelFileError(
            f"cannot fetch {remote.shown}: it redirects to {response.url.scheme}://{response.url.host}, which is not "
            "encrypted; give a checksum to allow that"
        )


def _may_resume(remote: Remote, partial: Partial) -> bool:
    """Whether something tells that the rest would be the rest of this: now, or at the end."""
    if remote.size is not None and partial.size > remote.size:
        return False
    return remote.addressed or remote.checksum is not None or partial.validator is not None


def _begin(remote: Remote, partial: Partial, response: httpx2.Response, at: int) -> int | None:
    """Make the partial file ready for the body; the size of the whole file, None where nobody says."""
    status = response.status_code
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and at:
        if _range(response) == (None, at):
            return at  # it was complete
        partial.begin(None)
        raise _Broken("the partial file does not belong to the server's, beginning anew")
    if status == HTTPStatus.PARTIAL_CONTENT and at:
        start, total = _range(response)
        if start != at or total != (remote.size or total):
            partial.begin(None)
            raise _Broken("the server sends another range than asked for, beginning anew")
        return total or remote.size
    if status != HTTPStatus.OK:
        raise _refusal(remote, response)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ModelFileError(f"cannot fetch {remote.shown}: the server compresses it")
    if at:
        log.warning("%s: the server does not resume, or has other content now; beginning anew", remote.shown)
    partial.begin(_validator(response))
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if remote.size is not None and total is not None and total != remote.size:
        raise ModelFileError(f"cannot fetch {remote.shown}: the server sends {total} bytes, not {remote.size}")
    return remote.size if total is None else total


async def _receive(
    response: httpx2.Response, remote: Remote, partial: Partial, total: int | None, meter: Meter
) -> None:
    """The body into the partial file, down to the last byte that came before anything broke."""
    waiting = bytearray()
    with partial.append() as file:

        def write() -> None:
            nonlocal waiting
            # Taken first: what could not be written now must not be written again below.
            block, waiting = waiting, bytearray()
            _check_content(remote, file.tell(), block)
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]

        try:
            async for chunk in response.aiter_raw():
                waiting += chunk
                if len(waiting) >= _BLOCK:
                    await trio.to_thread.run_sync(write)
                    meter.show(file.tell(), total)
        finally:
            write()
        meter.show(file.tell(), total)
    if total is not None and partial.size < total:
        raise _Broken(f"only {partial.size} of {total} bytes came")
    if total is not None and partial.size > total:
        size = partial.size
        partial.begin(None)
        raise ModelFileError(f"cannot fetch {remote.shown}: more bytes came ({size}) than the file has ({total})")


def _check_content(remote: Remote, at: int, block: bytearray) -> None:
    """Refuse a web page at once rather than after gigabytes."""
    name = remote.shown.lower()
    if at == 0 and block and name.endswith(".gguf") and not block.startswith(_MAGIC[: len(block)]):
        raise ModelFileError(f"{remote.shown} is no GGUF file: it begins with {bytes(block[:8])!r}")


async def _settle(remote: Remote, partial: Partial, target: Path, checksum: Checksum | None) -> None:
    """The complete partial file to its place."""
    if checksum is not None:
        log.info("checking %s", remote.shown)
        found = await trio.to_thread.run_sync(checksum.check, partial.path, trio.from_thread.check_cancelled)
        if found is not None:
            partial.discard()
            raise ModelFileError(
                f"{remote.shown} is damaged: its {checksum.kind} checksum is {found}, expected {checksum.digits}; "
                "start again to fetch it anew"
            )
    await trio.to_thread.run_sync(partial.sync)
    await trio.to_thread.run_sync(partial.path.replace, target)
    partial.discard()


def _checksum(remote: Remote, response: httpx2.Response) -> Checksum | None:
    """The checksum given, else the one that a hub names."""
    if remote.checksum is not None:
        return remote.checksum
    for answer in (*response.history, response):
        found = Checksum.of_etag(answer.headers.get(_SHA256_HEADER, "").strip('"'))
        if found is not None and found.kind == "sha256":
            return found
    return None


def _validator(response: httpx2.Response) -> str | None:
    """A strong ETag or the date of the last change: both may stand in If-Range."""
    etag: str = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    changed: str | None = response.headers.get("Last-Modified")
    return changed


def _range(response: httpx2.Response) -> tuple[int | None, int | None]:
    """(first byte, size of the whole) of Content-Range, None for what it does not say."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes":
        return None, None
    return int(start) if start.isdecimal() else None, int(total) if total.isdecimal() else None


def _refusal(remote: Remote, response: httpx2.Response) -> Exception:
    status = response.status_code
    if status in _TRANSIENT:
        asked = response.headers.get("Retry-After", "")
        return _Broken(f"HTTP {status}", float(asked) if asked.isdecimal() else 0.0)
    if status in {401, 403}:
        return ModelFileError(f"cannot fetch {remote.shown}: access is refused (HTTP {status})")
    if status in {404, 410}:
        return ModelFileError(f"cannot fetch {remote.shown}: there is no such file (HTTP {status})")
    return ModelFileError(f"cannot fetch {remote.shown}: HTTP {status}")


def _reason(error: Exception) -> str:
    """A line for an error of the client, some of which have no text."""
    return " ".join(str(error).split()) or type(error).__name__
