"""A model file from its parts: joined once, checked, and put in place in one step."""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from llamabox.models.errors import ModelFileError

try:
    import fcntl
except ImportError:
    HAVE_LOCKS = False
else:
    HAVE_LOCKS = True

CHUNK: Final = 4 * 1024 * 1024  # bytes


def join_parts(parts: Sequence[Path], target: Path, *, size: int, sha256: str) -> Path:
    """Make ``target`` of ``parts`` unless it is there already; returns ``target``.

    ``size`` (bytes) and ``sha256`` are those of the whole. The file appears under its name only after both were found
    right, so a file of the right size at that place is complete and is not read again. Processes that start together
    wait for the one that joins; where the system has no file locks each makes its own copy and the last one stays.
    Raises ModelFileError for damaged parts, for too little room and for a directory that cannot be written.
    """
    if is_complete(target, size):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            if not is_complete(target, size):
                _remove_remains(target)
                _join(parts, target, size=size, sha256=sha256)
    except OSError as error:
        raise ModelFileError(f"cannot write the model file {target}: {error.strerror or error}") from error
    return target


def is_complete(target: Path, size: int) -> bool:
    """Whether the file was put in place earlier."""
    try:
        return target.stat().st_size == size
    except OSError:
        return False


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold the lock of ``target``; blocks. The lock file stays: removing it would let two processes lock two files."""
    if not HAVE_LOCKS:
        yield
        return
    with target.with_name(target.name + ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file unlocks it


def _temporary_prefix(target: Path) -> str:
    return f".{target.name}."


def _remove_remains(target: Path) -> None:
    """Remove what a killed process left; only under the lock, where nobody else is writing."""
    if HAVE_LOCKS:
        for path in target.parent.glob(f"{_temporary_prefix(target)}*"):
            path.unlink(missing_ok=True)


def _join(parts: Sequence[Path], target: Path, *, size: int, sha256: str) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise ModelFileError(f"{target.parent} has {free // 2**20} MiB free, the model needs {-(-size // 2**20)} MiB")
    # In the same directory, so that the rename stays within one file system.
    handle, name = tempfile.mkstemp(prefix=_temporary_prefix(target), dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = hashlib.sha256()
            for chunk in _chunks(parts, size, target.name):
                digest.update(chunk)
                file.write(chunk)
            written = file.tell()
            file.flush()
            os.fsync(file.fileno())
        if written != size or digest.hexdigest() != sha256:
            raise ModelFileError(
                f"the parts of {target.name} are damaged ({written} bytes with sha256 {digest.hexdigest()}, "
                f"expected {size} with {sha256}): install them again"
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _chunks(parts: Sequence[Path], size: int, label: str) -> Iterator[bytes]:
    """The bytes of all parts in order, with a progress bar where standard error is a terminal."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # its stubs are a package of their own

    # Its default lock is shared between processes, which may start a helper process.
    tqdm.set_lock(threading.RLock())
    with tqdm(total=size, desc=label, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        for part in parts:
            try:
                file = part.open("rb")
            except OSError as error:
                raise ModelFileError(f"cannot read {part}: {error.strerror or error}") from error
            with file:
                while chunk := file.read(CHUNK):
                    bar.update(len(chunk))
                    yield chunk
