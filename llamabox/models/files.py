"""Files on the way: locks between processes, room on the disk."""

import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

import trio

from llamabox.models.errors import ModelFileError

try:
    import fcntl
except ImportError:
    HAVE_LOCKS = False
else:
    HAVE_LOCKS = True

log = logging.getLogger(__name__)

_LOCK_POLL: Final = 0.2  # seconds
_MIB: Final = 2**20


@asynccontextmanager
async def locked(path: Path, what: str) -> AsyncIterator[None]:
    """Hold the lock file ``path`` against other processes; waits, and can be cancelled while it does.

    The file stays: removing it would let two processes lock two files. Where the system has no locks, nothing happens.
    """
    with path.open("ab") as file:
        if HAVE_LOCKS and not _try_lock(file):
            log.info("waiting for another process that fetches %s", what)
            while not _try_lock(file):  # noqa: ASYNC110  # the other is a process, and no event of ours
                await trio.sleep(_LOCK_POLL)
        yield  # closing the file unlocks it


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_room(directory: Path, needed: int, what: str) -> None:
    """Raises ModelFileError with the numbers unless ``needed`` bytes are free."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ModelFileError(
            f"{directory} has {free // _MIB} MiB free, {what} needs {-(-needed // _MIB)} MiB: make room, or have the "
            "cache elsewhere"
        )
