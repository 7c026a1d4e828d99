"""Images and sounds in prompts, as the engine sees them: spans of pseudo-tokens, one for each position that they take.

A prompt is one row of integers in which the index is the position in the KV cache. Where a medium stands, it holds
negative integers with a number that the medium's content has got: equal content gives equal integers, so the prefix
cache shares and separates media like text. Each of them also says how far into its span it is, and how many cells the
span takes beyond its positions: with M-RoPE, where an image counts as its longer side, cells are more.
"""

import hashlib
import itertools
from collections.abc import Buffer, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import attrs

from engine.text.tokens import Tokens, row

# Of a pseudo-token -1 - x: x has 30 bits of number, one for flat, 16 of cells beyond positions, 16 of index.
BITS: Final = 16
MASK: Final = (1 << BITS) - 1
_NUMBER_BITS: Final = 30
LARGEST: Final = MASK  # positions or cells of a span
_KEY_BYTES: Final = 16
_REMEMBERED: Final = 1 << 14  # media whose number is known; one that comes again later gets another
_NUMBERS: Final = itertools.count()


@lru_cache(_REMEMBERED)
def _number(key: bytes, n_pos: int, n_cells: int, flat: bool) -> int:
    """The same for the same medium. When the numbers begin again, nobody has the first of them any more."""
    return next(_NUMBERS) & (1 << _NUMBER_BITS) - 1


@attrs.frozen(eq=False)
class MediaChunk:
    """One image, tile of an image or stretch of sound, ready to be encoded. ``native``: what the backend knows it by.

    ``n_pos`` positions and ``n_cells`` cells of the KV cache, both at least 1; ``flat``: all cells are at the first of
    the positions (M-RoPE images). ``key``: 16 bytes that differ where the content does; ``number`` goes with it.
    """

    key: bytes
    n_pos: int
    n_cells: int
    flat: bool = False
    native: Any = None
    number: int = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda chunk: _number(chunk.key, chunk.n_pos, chunk.n_cells, chunk.flat), takes_self=True
        ),
    )

    def tokens(self) -> Tokens:
        """The pseudo-tokens that stand for it, ``n_pos`` of them."""
        head = self.number << 1 | self.flat
        first = -1 - ((head << BITS | self.n_cells - self.n_pos) << BITS)
        return row(range(first, first - self.n_pos, -1))


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


def spans_fit(prompt: Sequence[int], spans: Sequence[MediaSpan]) -> bool:
    """Whether the prompt has its pseudo-tokens exactly where the spans say, in order, and text behind the last."""
    done = 0
    for span in spans:
        if span.start < done or list(prompt[span.start : span.end]) != span.chunk.tokens().tolist():
            return False
        if any(token < 0 for token in prompt[done : span.start]):
            return False
        done = span.end
    return done < len(prompt) and min(prompt[done:]) >= 0
