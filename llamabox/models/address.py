"""How models are addressed: URLs and repositories. Pure, and quick to import: the command line's table needs it."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from llamabox.models.checksum import Checksum
from llamabox.models.names import parts_of

_SHA256: Final = re.compile(r"sha256[=:-](?P<digits>[0-9a-fA-F]{64})")
_HUB_NAME: Final = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<quant>[\w.-]+))?", re.ASCII)
_NAME: Final = "model.gguf"  # where the URL's path ends without one
_ODD: Final = re.compile(r"[^\w.+() -]")  # in no file's name


@attrs.frozen(kw_only=True)
class Remote:
    """A file to fetch. ``shown`` is what messages and log lines call it: no credentials in there.

    ``addressed``: the place on disk is named by the content, so that what lies there belongs to it whatever the
    server says.
    """

    url: str = attrs.field(repr=False)
    shown: str
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    size: int | None = None  # bytes, as far as known beforehand
    checksum: Checksum | None = None
    addressed: bool = False


@attrs.frozen
class ModelUrl:
    """A URL of http or https, its checksum taken off. ``names``: the files of a split model, else the one."""

    parts: SplitResult = attrs.field(repr=False)
    checksum: Checksum | None

    @classmethod
    def parse(cls, text: str) -> "ModelUrl":
        """The checksum may follow as ``#sha256=…``. Raises ValueError for what is no such URL."""
        parts = urlsplit(text.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError(text)
        match = _SHA256.fullmatch(parts.fragment)
        if parts.fragment and match is None:
            raise ValueError(text)
        found = cls(parts._replace(fragment=""), Checksum("sha256", match["digits"].lower()) if match else None)
        if found.checksum is not None and len(found.names) > 1:
            raise ValueError(text)
        return found

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        name = _ODD.sub("_", unquote(PurePosixPath(self.parts.path).name))
        return _NAME if name.strip(". ") == "" else name

    @property
    def names(self) -> list[str]:
        return parts_of(self.name)

    @property
    def shown(self) -> str:
        """The URL without what may be secret."""
        host = self.parts.netloc.rpartition("@")[2]
        return f"{self.parts.scheme}://{host}{self.parts.path}"

    @property
    def directory(self) -> str:
        """A name for the place that the URL's files have in common. A hash: different URLs, different places."""
        where = self.parts._replace(
            path=self.parts.path.rpartition("/")[0], netloc=self.parts.netloc.rpartition("@")[2]
        )
        return hashlib.sha256(where.geturl().encode()).hexdigest()[:16]

    def remote(self, name: str) -> Remote:
        """The part of that name, the file itself where it is whole."""
        if name == self.name:
            return Remote(url=self.parts.geturl(), shown=self.shown, checksum=self.checksum)
        path = self.parts.path.rpartition("/")[0] + "/" + name
        return Remote(url=self.parts._replace(path=path).geturl(), shown=f"{self.shown.rpartition('/')[0]}/{name}")


@attrs.frozen
class HubName:
    """``user/model[:quant]``."""

    repository: str
    quant: str | None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Raises ValueError for anything else."""
        match = _HUB_NAME.fullmatch(text.strip())
        if match is None:
            raise ValueError(text)
        return cls(match["name"], match["quant"])
