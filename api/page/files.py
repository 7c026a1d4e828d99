"""The files of the page, read once from the package."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import attrs

INDEX: Final = "index.html"
FOLDER: Final = "/ui/"  # where all but the index are found
_MEDIA: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@attrs.frozen
class PageFile:
    """``etag`` changes with the content, and only with it."""

    body: bytes
    media: str
    etag: str


def _read() -> dict[str, PageFile]:
    found = {}
    for entry in files("api.page").joinpath("static").iterdir():
        body = entry.read_bytes()
        media = _MEDIA[entry.name.rpartition(".")[2]]
        found[entry.name] = PageFile(body, media, hashlib.sha256(body).hexdigest()[:32])
    return found


FILES: Final[Mapping[str, PageFile]] = _read()
# Anybody may have these: they hold nothing of the model, and a browser sends no key along when it loads a page.
PUBLIC: Final = frozenset({"/", *(FOLDER + name for name in FILES if name != INDEX)})
