"""Models from a URL, kept in the user's cache."""

import json
import logging
from pathlib import Path

import attrs
import platformdirs

from llamabox.models.address import ModelUrl, Remote
from llamabox.models.download import Downloader
from llamabox.models.errors import ModelFileError
from llamabox.models.files import locked
from llamabox.models.partial import Partial

log = logging.getLogger(__name__)


def default_directory() -> Path:
    """Where downloads are kept: in the user's cache."""
    return platformdirs.user_cache_path("llama-box") / "urls"


async def fetch_url(url: ModelUrl, downloader: Downloader, directory: Path | None = None) -> Path:
    """The model's file, or the first of its parts, fetched unless it is there already.

    A file that is there is asked for at its server: where that has another one now, it is fetched anew; where it does
    not answer, the old one is used, with a warning. One with a checksum is not asked for. Raises ModelFileError.
    """
    directory = (directory or default_directory()) / url.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in url.names:
            async with locked(directory / f"{name}.lock", name):
                await _fetch(url.remote(name), downloader, directory / name)
    except OSError as error:
        raise ModelFileError(f"cannot write {directory}: {error.strerror or error}") from error
    return directory / url.names[0]


async def _fetch(remote: Remote, downloader: Downloader, target: Path) -> None:
    notes = _Notes(target.with_name(target.name + ".json"))
    noted = notes.of(target)
    if noted is not None:
        if await _is_current(remote, downloader, noted):
            log.info("%s is in the cache: %s", remote.shown, target)
            return
        log.info("%s has changed at its server", remote.shown)
    log.info("fetching %s to %s", remote.shown, target)
    partial = Partial(target.with_name(target.name + ".partial"))
    fetched = await downloader.fetch(remote, target, partial)
    digits = remote.checksum.digits if remote.checksum else None
    notes.write({"size": fetched.size, "validator": fetched.validator, "sha256": digits})


async def _is_current(remote: Remote, downloader: Downloader, noted: dict[str, object]) -> bool:
    if remote.checksum is not None and noted.get("sha256") == remote.checksum.digits:
        return True
    if remote.checksum is not None:
        return False
    try:
        validator = await downloader.validator(remote)
    except ModelFileError as error:
        log.warning("%s cannot be asked for news (%s): the file in the cache is used", remote.shown, error)
        return True
    return validator == noted.get("validator")


@attrs.frozen
class _Notes:
    """What is known of a complete file, beside it."""

    path: Path

    def of(self, target: Path) -> dict[str, object] | None:
        """What was noted; None where that is not about the file that is there now."""
        try:
            noted = json.loads(self.path.read_bytes())
            size = target.stat().st_size
        except (OSError, ValueError):
            return None
        return noted if isinstance(noted, dict) and noted.get("size") == size else None

    def write(self, noted: dict[str, object]) -> None:
        self.path.write_text(json.dumps(noted), encoding="utf-8")
