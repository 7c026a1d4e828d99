"""Images and sounds in prompts, as the engine sees them: spans of pseudo-tokens, one for each position that they take.

A prompt is one list of integers in which the index is the position in the KV cache. Where a medium stands, it holds
negative integers made from the medium's content hash: equal content gives equal integers, so the prefix cache shares
and separates media like text. Each of them also says how far into its span it is, how many positions the span has
and how many cells it takes: with M-RoPE, where an image counts as its longer side, these are more than positions.
"""

import hashlib
import itertools
from collections.abc import Buffer, Iterator, Sequence
from typing import Any, Final, Protocol

import attrs

_BITS: Final = 20
_MASK: Final = (1 << _BITS) - 1
LARGEST: Final = _MASK  # positions or cells of a span
_KEY_BYTES: Final = 16


@attrs.frozen(eq=False)
class MediaChunk:
    """One image, tile of an image or stretch of sound, ready to be encoded. ``native``: what the backend knows it by.

    ``n_pos`` positions and ``n_cells`` cells of the KV cache, both at least 1; ``flat``: all cells are at the first of
    the positions (M-RoPE images). ``key``: 16 bytes that differ where the content does.
    """

    key: bytes
    n_pos: int
    n_cells: int
    flat: bool = False
    native: Any = None

    def tokens(self) -> list[int]:
        """The pseudo-tokens that stand for it, ``n_pos`` of them."""
        head = int.from_bytes(self.key)
        for field in (int(self.flat), self.n_cells, self.n_pos):
            head = head << _BITS | field
        first = -1 - (head << _BITS)
        return [first - index for index in range(self.n_pos)]


@attrs.frozen
class MediaSpan:
    """Where a chunk stands in a prompt: at the positions ``start`` … ``end - 1``."""

    start: int
    chunk: MediaChunk

    @property
    def end(self) -> int:
        return self.start + self.chunk.n_pos

    @property
    def extra(self) -> int:
        """Cells beyond one for each position."""
        return self.chunk.n_cells - self.chunk.n_pos


type MediaItem = Sequence[Sequence[int] | MediaChunk]
"""What one image or sound becomes: chunks, and the tokens that the model wants around them."""


def item_cells(item: MediaItem) -> int:
    """Cells of the KV cache that an item takes."""
    return sum(part.n_cells if isinstance(part, MediaChunk) else len(part) for part in item)


class MediaReader(Protocol):
    """Turns decoded media into what a prompt may hold. Thread-safe; takes up to a second: not for the event loop.

    Raises EngineUnavailable once the engine has been closed.
    """

    @property
    def vision(self) -> bool:
        """Whether the model takes images."""

    @property
    def audio(self) -> bool:
        """Whether the model takes sound."""

    @property
    def sample_rate(self) -> int:
        """Samples per second that ``sound`` expects, 0 where the model takes no sound."""

    def image(self, width: int, height: int, rgb: Buffer) -> MediaItem:
        """``rgb``: width x height x 3 bytes, row by row. Raises InvalidRequest for what the model cannot take."""

    def sound(self, samples: Buffer) -> MediaItem:
        """``samples``: float32, mono, -1 to 1. Raises InvalidRequest for what the model cannot take."""

    def mp3(self, data: bytes) -> Buffer:
        """The samples of an MP3 stream, as ``sound`` takes them. Raises InvalidRequest."""


def chunk_keys(kind: str, shape: Sequence[int], content: Buffer) -> Iterator[bytes]:
    """The keys of the chunks of a medium, one after the other, without end."""
    digest = hashlib.sha256(f"{kind} {shape}\n".encode())
    digest.update(content)
    whole_key = digest.digest()
    for index in itertools.count():
        yield hashlib.sha256(whole_key + index.to_bytes(4)).digest()[:_KEY_BYTES]


def weight(tokens: Sequence[int]) -> int:
    """Cells that the tokens take, which hold spans as a whole or not at all."""
    if not tokens or min(tokens) >= 0:
        return len(tokens)
    return len(tokens) + sum(_cells(token) - _positions(token) for token in tokens if token < 0 and _index(token) == 0)


def whole(tokens: Sequence[int], length: int) -> int:
    """The largest number of leading tokens, at most ``length``, that cuts no span."""
    if length >= len(tokens) or tokens[length] >= 0:
        return length
    return length - _index(tokens[length])


def last_position(tokens: Sequence[int], end: int) -> int:
    """The highest position that cells have where ``tokens`` are the last ones before position ``end``."""
    last = tokens[-1]
    return end - _positions(last) if last < 0 and (-1 - last) >> 3 * _BITS & _MASK else end - 1


def spans_fit(prompt: Sequence[int], spans: Sequence[MediaSpan]) -> bool:
    """Whether the prompt has its pseudo-tokens exactly where the spans say, in order, and text behind the last."""
    done = 0
    for span in spans:
        if span.start < done or list(prompt[span.start : span.end]) != span.chunk.tokens():
            return False
        if any(token < 0 for token in prompt[done : span.start]):
            return False
        done = span.end
    return done < len(prompt) and min(prompt[done:]) >= 0


def _index(token: int) -> int:
    return (-1 - token) & _MASK


def _positions(token: int) -> int:
    return (-1 - token) >> _BITS & _MASK


def _cells(token: int) -> int:
    return (-1 - token) >> 2 * _BITS & _MASK
