"""Slot files: the cells of a cached prompt, with all that must be the same for them to be of use again.

Layout, little-endian: the fixed head (``_HEAD``), per adapter its fingerprint and scale, the tokens as int32, the state
as the library wrote it, and a BLAKE2b checksum of all before. The library kills the process over a state that was cut
off and silently takes one that was changed, so nothing of a file is given to it before everything has been compared.
"""

import hashlib
import os
import stat
import struct
import tempfile
from collections.abc import Buffer
from io import BufferedReader
from pathlib import Path
from typing import IO, Final

import attrs

from engine.errors import InvalidRequest, StorageError
from engine.text.adapters import AdapterSet, adapter_set
from engine.text.tokens import Tokens, row

HASH_SIZE: Final = 32  # bytes of fingerprints and of the checksum

_MAGIC: Final = b"LLBXSLOT"
_VERSION: Final = 1
# magic, version, number of adapters, number of tokens, bytes of state, what the state was computed with
_HEAD: Final = struct.Struct(f"<8sIIQQ{HASH_SIZE}s")
_ADAPTER: Final = struct.Struct(f"<{HASH_SIZE}sf")
_TOKEN: Final = 4  # bytes
_PARAM: Final = "filename"


@attrs.frozen(kw_only=True)
class Snapshot:
    """A cached prompt: its tokens, what they were computed with, and the state that the library gave for them."""

    tokens: Tokens
    adapters: AdapterSet
    state: Buffer


@attrs.frozen(kw_only=True)
class Identity:
    """Fingerprints of HASH_SIZE bytes: of the model with its context, and of each loaded adapter, by id."""

    model: bytes
    adapters: tuple[bytes, ...] = ()


def write_snapshot(path: Path, snapshot: Snapshot, identity: Identity) -> int:
    """Write the file whole or not at all; what was there is replaced at the end. Returns the bytes written.

    Raises StorageError.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".slot-", delete=False) as file:
            try:
                _write(file, snapshot, identity)
                size = file.tell()
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"the slot file {path.name} cannot be written: {error.strerror or error}") from error
    return size


def read_snapshot(path: Path, identity: Identity, most_tokens: int) -> tuple[Snapshot, int]:
    """The snapshot, complete and of this very configuration, and the file's size in bytes.

    Raises InvalidRequest for a file that is missing, damaged, foreign, or longer than ``most_tokens``.
    """
    try:
        # Without O_NONBLOCK a pipe would be waited for until somebody writes to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise _refused(path, "it is no regular file")
            return _Reading(path, file, facts.st_size).snapshot(identity, most_tokens), facts.st_size
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _write(file: IO[bytes], snapshot: Snapshot, identity: Identity) -> None:
    tokens, state = snapshot.tokens, memoryview(snapshot.state).cast("B")
    head = _HEAD.pack(_MAGIC, _VERSION, len(snapshot.adapters), len(tokens), len(state), identity.model)
    adapters = [_ADAPTER.pack(identity.adapters[adapter], scale) for adapter, scale in snapshot.adapters]
    checksum = _checksum()
    parts: tuple[Buffer, ...] = (head, *adapters, struct.pack(f"<{len(tokens)}i", *tokens), state)
    for part in parts:
        checksum.update(part)
        file.write(part)
    file.write(checksum.digest())


def _sync_directory(path: Path) -> None:
    """The new name must survive a crash too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=HASH_SIZE)


def _refused(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"the slot file {path.name} cannot be restored: {reason}", _PARAM)


class _Reading:
    """Reads one file; every part is counted, and compared, before the next one is believed."""

    def __init__(self, path: Path, file: BufferedReader, size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._checksum = _checksum()

    def snapshot(self, identity: Identity, most_tokens: int) -> Snapshot:
        n_adapters, n_tokens, n_state = self._head(identity)
        expected = _HEAD.size + n_adapters * _ADAPTER.size + n_tokens * _TOKEN + n_state + HASH_SIZE
        if expected != self._size:
            raise self._damaged(f"it has {self._size} bytes and should have {expected}")
        if not 1 <= n_tokens <= most_tokens:
            raise _refused(self._path, f"it has {n_tokens} tokens, and a slot has {most_tokens}")
        used = [_ADAPTER.unpack(self._take(_ADAPTER.size)) for _ in range(n_adapters)]
        tokens = row(struct.unpack(f"<{n_tokens}i", self._take(n_tokens * _TOKEN)))
        state = bytearray(n_state)
        if self._file.readinto(state) != n_state:
            raise self._damaged("it is cut off")
        self._checksum.update(state)
        if self._file.read(HASH_SIZE) != self._checksum.digest():
            raise self._damaged("its checksum is wrong")
        return Snapshot(tokens=tokens, adapters=self._adapters(used, identity), state=state)

    def _head(self, identity: Identity) -> tuple[int, int, int]:
        magic, version, n_adapters, n_tokens, n_state, model = _HEAD.unpack(self._take(_HEAD.size))
        if magic != _MAGIC:
            raise _refused(self._path, "it is no slot file of this server")
        if version != _VERSION:
            raise _refused(self._path, f"it has version {version} of the format, this is {_VERSION}")
        if model != identity.model:
            raise _refused(self._path, "it was saved with another model, or with other settings of its context")
        return n_adapters, n_tokens, n_state

    def _adapters(self, used: list[tuple[bytes, float]], identity: Identity) -> AdapterSet:
        ids = {known: adapter for adapter, known in enumerate(identity.adapters)}
        if any(adapter not in ids for adapter, _ in used):
            raise _refused(self._path, "it was saved with a LoRA that is not loaded")
        return adapter_set((ids[adapter], scale) for adapter, scale in used)

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise self._damaged("it is cut off")
        self._checksum.update(data)
        return data

    def _damaged(self, reason: str) -> InvalidRequest:
        return _refused(self._path, f"it is damaged: {reason}")
