"""Where a medium is: in the request itself, on the network, or in a directory that the operator has opened."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import attrs
import trio

from engine.errors import InvalidRequest
from llamabox.media.fetch import MOST_BYTES, Fetcher
from llamabox.media.inline import from_base64

_LOCAL: Final = re.compile(r"^//(localhost(?=/))?", re.IGNORECASE)  # before a path: no host, or this one


@attrs.frozen(kw_only=True)
class Sources:
    """``directory``: below it ``file:`` URLs may point, None: nowhere."""

    fetcher: Fetcher
    directory: Path | None = None

    async def read(self, source: str) -> bytes:
        """The bytes behind a ``data:``, ``http(s):`` or ``file:`` URL, or bare base64. Raises InvalidRequest."""
        scheme = source[:8].partition(":")[0].lower()
        if scheme in ("http", "https"):
            return await self.fetcher.fetch(source)
        if scheme == "file":
            return await trio.to_thread.run_sync(self._read_file, source[len("file:") :])
        if scheme == "data":
            head, comma, text = source.partition(",")
            if not comma or not head.rstrip().lower().endswith(";base64"):
                raise InvalidRequest("a data: URL must hold base64 (data:image/png;base64,…)")
            return await _decoded(text)
        if ":" in source[:32]:
            raise InvalidRequest(f"a URL of the kind {source[:32].partition(':')[0]}: is not supported")
        return await _decoded(source)

    def _read_file(self, path: str) -> bytes:
        if self.directory is None:
            raise InvalidRequest("file: URLs are not allowed (--media-path)")
        root = self.directory.resolve()
        name = unquote(_LOCAL.sub("", path))
        try:
            whole = Path(name).resolve()
            found = whole if whole.is_relative_to(root) else (root / name.lstrip("/")).resolve()
            if not found.is_relative_to(root) or not found.is_file():
                raise InvalidRequest("there is no such file below the media directory")
            with found.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except (OSError, ValueError):
            raise InvalidRequest("the file below the media directory cannot be read") from None
        if len(data) > MOST_BYTES:
            raise InvalidRequest(f"the file is larger than {MOST_BYTES >> 20} MiB")
        return data


async def _decoded(text: str) -> bytes:
    try:
        data = await from_base64(text)
    except ValueError:
        raise InvalidRequest("the data is no base64, nor a data:, http: or https: URL") from None
    if not data:
        raise InvalidRequest("there is no data")
    return data
