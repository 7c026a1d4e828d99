"""Checksums of files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import attrs

_BLOCK: Final = 4 * 1024 * 1024  # bytes


@attrs.frozen
class Checksum:
    """``kind`` git: the SHA-1 that git names a blob by, which the size of the content belongs to."""

    kind: Literal["sha256", "git"]
    digits: str

    @classmethod
    def of_etag(cls, etag: str) -> "Checksum | None":
        """The checksum that a hub's ETag is; None for an ETag of another form."""
        if not all(digit in "0123456789abcdef" for digit in etag):
            return None
        match len(etag):
            case 64:
                return cls("sha256", etag)
            case 40:
                return cls("git", etag)
        return None

    def check(self, path: Path, proceed: Callable[[], None]) -> str | None:
        """What the content's digits are where they are others; None: all is well.

        ``proceed`` is called every few megabytes; what it raises ends the check.
        """
        if self.kind == "git":
            digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        else:
            digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                proceed()
                digest.update(block)
        return None if digest.hexdigest() == self.digits else digest.hexdigest()
