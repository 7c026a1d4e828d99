"""N-grams and what followed on them, in memory and in the files of llama.cpp's lookup tools.

A file is a list of entries: the n-gram as four int32 (-1 behind its end), int32 k, and k times int32 token, int32
count. It says nothing about the vocabulary that the tokens are of.
"""

import logging
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import attrs

from engine.errors import StorageError

log = logging.getLogger("engine.text")

NGRAM_MAX: Final = 4  # tokens of an n-gram, as in llama.cpp
MOST_NGRAMS: Final = 1 << 16  # that are collected; the oldest go
SAVE_EVERY: Final = 300.0  # seconds
_NONE: Final = -1
_HEAD: Final = struct.Struct("<5i")
_PAIR: Final = struct.Struct("<2i")

type Ngram = tuple[int, ...]


@attrs.frozen
class Follower:
    """The token that followed most often: so many times, and in which share of all cases."""

    token: int
    count: int
    share: float


class NgramTable:
    """N-grams of 1 to 4 tokens. At most ``most`` of them are collected; one that was read may be larger."""

    def __init__(self, most: int = MOST_NGRAMS) -> None:
        self._most = most
        self._counts: dict[Ngram, dict[int, int]] = {}
        self.n_learned = 0  # tokens, so that others see that something is new

    def __len__(self) -> int:
        return len(self._counts)

    def best(self, ngram: Ngram) -> Follower | None:
        """What followed most often; the smaller token of equals."""
        counts = self._counts.get(ngram)
        if not counts:
            return None
        token, count = max(counts.items(), key=lambda item: (item[1], -item[0]))
        return Follower(token, count, count / sum(counts.values()))

    def learn(self, tokens: Sequence[int], first: int, least: int = 1) -> None:
        """Count the tokens from index ``first`` on behind the n-grams of ``least`` and more tokens before each."""
        for at in range(first, len(tokens)):
            if tokens[at] < 0:
                continue
            for n in range(least, min(NGRAM_MAX, at) + 1):
                ngram = tuple(tokens[at - n : at])
                if ngram[0] < 0:
                    break  # a medium
                counts = self._counts.setdefault(ngram, {})
                counts[tokens[at]] = counts.get(tokens[at], 0) + 1
            self.n_learned += 1
        while len(self._counts) > self._most:
            del self._counts[next(iter(self._counts))]

    def to_bytes(self) -> bytes:
        """The file's content."""
        parts: list[bytes] = []
        for ngram, counts in self._counts.items():
            parts.append(_HEAD.pack(*ngram, *[_NONE] * (NGRAM_MAX - len(ngram)), len(counts)))
            parts += [_PAIR.pack(token, count) for token, count in counts.items()]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, content: bytes, n_vocab: int, most: int = MOST_NGRAMS) -> "NgramTable":
        """Raises ValueError, which says what is wrong, for what is no such file or has tokens of another vocabulary."""
        table, at = cls(most), 0
        while at < len(content):
            if at + _HEAD.size > len(content):
                raise ValueError("it is cut off")
            *tokens, n_followers = _HEAD.unpack_from(content, at)
            at += _HEAD.size
            if n_followers < 1:
                raise ValueError("it is no file of n-grams")
            end = at + n_followers * _PAIR.size
            if end > len(content):
                raise ValueError("it is cut off")
            ngram = tuple(tokens[: tokens.index(_NONE)] if _NONE in tokens else tokens)
            counts = dict(_PAIR.iter_unpack(content[at:end]))
            if not ngram or any(token != _NONE for token in tokens[len(ngram) :]) or min(counts.values()) < 1:
                raise ValueError("it is no file of n-grams")
            if min(*ngram, *counts) < 0 or max(*ngram, *counts) >= n_vocab:
                raise ValueError(f"it has tokens that are not in the vocabulary (0 to {n_vocab - 1})")
            table._counts[ngram] = counts
            at = end
        return table


def load(path: str, n_vocab: int) -> NgramTable:
    """Raises StorageError, which names the file and the reason."""
    try:
        return NgramTable.from_bytes(Path(path).read_bytes(), n_vocab)
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise StorageError(f"cannot load the lookup cache {path}: {reason}") from error


class NgramFile:
    """A table that is kept in a file, which may be missing at first. One process at a time should use it."""

    def __init__(self, path: str, n_vocab: int, clock: Callable[[], float] = monotonic) -> None:
        """Raises StorageError for a file that is there and no such file."""
        self._path = Path(path)
        self.table = load(path, n_vocab) if self._path.exists() else NgramTable()
        self._clock = clock
        self._saved_at = clock()
        self._saved = 0

    def save_sometimes(self) -> None:
        """Save when something is new and the last time is minutes ago."""
        if self._clock() - self._saved_at >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Replace the file as a whole, if something is new. A failure is logged: the text goes on."""
        self._saved_at = self._clock()
        if self._saved == self.table.n_learned:
            return
        try:
            _replace(self._path, self.table.to_bytes())
        except OSError as error:
            log.warning("the lookup cache %s cannot be saved: %s", self._path, error.strerror or error)
            return
        self._saved = self.table.n_learned


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
