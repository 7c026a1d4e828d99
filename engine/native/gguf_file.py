"""Reads what a GGUF file says of itself, its metadata and its table of tensors, without the library.

The library ends the process over some damaged files; this reader refuses them with a reason. A model of 150,000 tokens
takes it 40 ms, as it does the library. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import re
import struct
from collections.abc import Container, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from engine.errors import ModelLoadError

type Scalar = int | float | bool | str

_MAGIC: Final = b"GGUF"
_HEADER_BYTES: Final = 24  # magic, version, number of tensors, number of metadata entries
_VERSIONS: Final = (2, 3)
_STRING: Final = 8
_ARRAY: Final = 9
_NUMBERS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_MOST_DIMENSIONS: Final = 4
_MOST_SIZE: Final = 2**31 - 1  # of one dimension
_ALIGNMENT: Final = 32
_LENGTH: Final = struct.Struct("<Q")  # of a string
_BLOCK: Final = 1 << 20  # bytes that are read at once where strings are stepped over
_PART: Final = re.compile(r"(.*-)[0-9]{5}(-of-([0-9]{5})\.gguf)")

FLOAT32: Final = 0  # a tensor's type


@attrs.frozen
class Tensor:
    """``shape`` with the fastest dimension first; ``offset``: bytes from the file's start to its data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@attrs.frozen
class GgufFile:
    """Arrays of the metadata are there with None for a value."""

    path: str
    metadata: Mapping[str, Scalar | None]
    tensors: tuple[Tensor, ...]

    def text(self, key: str) -> str:
        """The text under ``key``, "" without one. Raises ModelLoadError if it is something else."""
        value = self.metadata.get(key, "")
        if not isinstance(value, str):
            raise ModelLoadError(f"cannot load {self.path}: {key} is no text")
        return value


def read_gguf(path: str) -> GgufFile:
    """Raises ModelLoadError, which names the file and what is wrong with it."""
    try:
        with Path(path).open("rb") as file:
            return _Reader(file, path).read()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def check_file(path: str) -> None:
    """Refuse what is certainly no model, by its first bytes. Raises ModelLoadError."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not head:
        raise ModelLoadError(f"cannot load {path}: the file is empty")
    if head[8:9] == b"{":  # behind the length of its header
        raise ModelLoadError(
            f"cannot load {path}: it is a safetensors file, language models are GGUF files; if it is an image model: "
            "--images serves it"
        )
    if not head.startswith(_MAGIC):
        raise ModelLoadError(f"cannot load {path}: {_not_gguf(head)}")
    if len(head) < _HEADER_BYTES:
        raise ModelLoadError(f"cannot load {path}: the file is truncated")


def is_gguf(path: str) -> bool:
    """Whether the file calls itself GGUF. Raises OSError, and ValueError for a NUL byte in the path."""
    with Path(path).open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def unreadable(path: str, error: OSError | ValueError) -> ModelLoadError:
    """The refusal of a file that cannot be opened or read; a ValueError is about a NUL byte in the path."""
    if isinstance(error, OSError):
        return ModelLoadError(f"cannot load {path}: {error.strerror or error}")
    return ModelLoadError(f"cannot load {path!r}: {error}")


def _not_gguf(head: bytes) -> str:
    return f"not a GGUF file (it starts with {head[: len(_MAGIC)]!r})"


def has_tensor(path: str, names: Container[str]) -> bool:
    """Whether a model, with all its parts if it is split, has a tensor of one of the names. Raises ModelLoadError."""
    return any(tensor.name in names for part in parts(path) for tensor in read_gguf(str(part)).tensors)


def parts(path: str) -> list[Path]:
    """The files of a split model, of which ``path`` is one; itself alone where it is not split."""
    whole = Path(path)
    named = _PART.fullmatch(whole.name)
    if named is None:
        return [whole]
    return [whole.with_name(f"{named[1]}{number:05d}{named[2]}") for number in range(1, int(named[3]) + 1)]


class _Reader:
    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self._size = Path(path).stat().st_size
        self._at = 0  # bytes from the start

    def read(self) -> GgufFile:
        magic = self._take(len(_MAGIC))
        if magic != _MAGIC:
            raise self._wrong(_not_gguf(magic))
        version: int = self._number("<I")
        if version not in _VERSIONS:
            raise self._wrong(f"version {version} of the format is unknown")
        n_tensors, n_entries = self._number("<Q"), self._number("<Q")
        metadata = dict(self._entry() for _ in range(n_entries))
        rows = [self._tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._wrong("general.alignment is no power of two")
        start = -(-self._at // alignment) * alignment
        tensors = tuple(attrs.evolve(row, offset=start + row.offset) for row in rows)
        if len({tensor.name for tensor in tensors}) != n_tensors:
            raise self._wrong("two tensors have the same name")
        return GgufFile(self._path, metadata, tensors)

    def _entry(self) -> tuple[str, Scalar | None]:
        return self._string(), self._value(self._number("<I"))

    def _value(self, kind: int) -> Scalar | None:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._array()
            return None
        if kind not in _NUMBERS:
            raise self._wrong(f"a metadata value has the unknown type {kind}")
        number: int | float | bool = self._number(_NUMBERS[kind])
        return number

    def _array(self) -> None:
        kind, count = self._number("<I"), self._number("<Q")
        if kind in _NUMBERS:
            self._take(count * struct.calcsize(_NUMBERS[kind]))
        elif kind == _STRING:
            self._skip_strings(count)
        else:
            raise self._wrong(f"an array has elements of the unknown type {kind}")

    def _skip_strings(self, count: int) -> None:
        """Vocabularies have hundreds of thousands of them: no object is made of them."""
        size, unpack = _LENGTH.size, _LENGTH.unpack_from
        block, start, last = b"", 0, -1  # where in the block the next one starts, and at most can
        for _ in range(count):
            if start > last:
                self._go_to(self._at + start)
                block = self._file.read(_BLOCK)
                start, last = 0, len(block) - size
                if last < 0:
                    raise self._wrong("the file is truncated")
            start += size + unpack(block, start)[0]
        self._go_to(self._at + start)

    def _go_to(self, offset: int) -> None:
        if offset > self._size:
            raise self._wrong("the file is truncated")
        self._file.seek(offset)
        self._at = offset

    def _tensor(self) -> Tensor:
        name, n_dimensions = self._string(), self._number("<I")
        if n_dimensions > _MOST_DIMENSIONS:
            raise self._wrong(f"tensor {name!r} has {n_dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(n_dimensions)) or (1,)  # without any: a single number
        if min(shape) < 1 or max(shape) > _MOST_SIZE:
            raise self._wrong(f"tensor {name!r} has the shape {shape}")
        return Tensor(name, shape, self._number("<I"), self._number("<Q"))

    def _string(self) -> str:
        return self._take(self._number("<Q")).decode("utf-8", "replace")

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return value  # type: ignore[no-any-return]  # what the form says

    def _take(self, count: int) -> bytes:
        if self._at + count > self._size:
            raise self._wrong("the file is truncated")
        self._at += count
        data = self._file.read(count)
        if len(data) != count:
            raise self._wrong("the file is truncated")
        return data

    def _wrong(self, reason: str) -> ModelLoadError:
        return ModelLoadError(f"cannot load {self._path}: {reason}")
