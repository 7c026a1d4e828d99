"""What the engine loop needs of a model: the llama.cpp adapter and the fake of the tests both satisfy it.

A backend is used by one thread only, the vocabulary excepted.
"""

import enum
from collections.abc import Buffer, Sequence
from typing import Protocol

import attrs

from engine.text.adapters import AdapterSet
from engine.text.info import ModelInfo
from engine.text.media import MediaChunk, MediaReader
from engine.text.requests import Grammars, SamplingParams, TokenInfo
from engine.text.snapshot import Identity


class DecodeStatus(enum.Enum):
    """OK: all computed. NO_ROOM: nothing changed. ABORTED: whole ubatches before the abort are computed."""

    OK = "ok"
    NO_ROOM = "no room"
    ABORTED = "aborted"


@attrs.define
class Run:
    """Consecutive tokens of one sequence in a batch, at positions ``start``, ``start + 1`` … The scheduler changes it.

    ``logits`` asks for the logits of the LAST token; they are found at the run's last batch index. The last
    ``n_drafted`` tokens are guesses: the logits of each of them, and of the token before them, are asked for too.
    ``scored`` asks for those of all tokens.
    """

    seq: int
    start: int
    tokens: Sequence[int]
    logits: bool
    n_drafted: int = 0
    scored: bool = False

    @property
    def n_own(self) -> int:
        """Tokens that are no guesses."""
        return len(self.tokens) - self.n_drafted


class Vocab(Protocol):
    """Text to tokens and back. Thread-safe."""

    @property
    def n_vocab(self) -> int:
        """Token ids are 0 … n_vocab - 1."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of ``text``; control tokens are recognised in it only with ``parse_special``."""

    def piece(self, token: int, *, special: bool) -> bytes:
        """Bytes of one token; b"" for a control token unless ``special``. Raises ValueError out of range."""

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation."""

    def control_tokens(self) -> Sequence[int]:
        """The tokens that are markers rather than text: ``piece`` without ``special`` is empty for them."""


class Sampler(Protocol):
    """Draws the tokens of one sequence. Stateful: penalties, the random generator, mirostat."""

    def accept(self, tokens: Sequence[int]) -> None:
        """Count prompt tokens into the history that penalties look at."""

    def sample(self, index: int, mask: Buffer | None = None) -> tuple[int, TokenInfo | None]:
        """Draw from the logits of batch index ``index`` of the last decode, and accept the token.

        ``mask``: only these tokens, one bit each (see ``Matcher.mask``); None: all. The info is given when the params
        ask for it (``logprobs`` or ``n_probs``). Raises InvalidRequest when the params forbid every token.
        """

    def describe(self, index: int, token: int) -> TokenInfo:
        """How probable a token is by the logits of batch index ``index``, without bias and penalties; draws nothing."""

    def close(self) -> None:
        """Free it; a closed sampler is not used again. Idempotent."""


class Memory(Protocol):
    """The KV cache. Positions are half-open ranges [p0, p1); p1 None: to the end."""

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """Let ``dst`` share the cells of ``src`` in the range.

        Where each sequence has a stream of its own (``info.kv_unified`` is false) ``dst`` is empty, the range begins at
        0, and the cells are copied.
        """

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        """Take the range out of the sequence."""

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        """Move the positions of the range by ``delta``; only for cells that ``seq`` alone holds."""

    def span(self, seq: int) -> tuple[int, int]:
        """(first, last) position held, (-1, -1) when empty."""

    def exchange(self, a: int, b: int) -> bool:
        """Let two sequences change streams; each keeps what it holds. Where each has a stream of its own.

        Returns whether it was done: not between ``shift`` and the next decode.
        """


class Backend(Memory, Protocol):
    """A loaded model with its context."""

    info: ModelInfo
    n_seqs: int  # sequence ids 0 … n_seqs - 1 may be used

    @property
    def n_encoded(self) -> int:
        """Media encoded so far; the others came from the cache."""

    @property
    def vocab(self) -> Vocab:
        """The model's vocabulary; outlives no ``close``."""

    @property
    def grammars(self) -> Grammars:
        """Compiles grammars for the model's vocabulary. Thread-safe; refuses after ``close``."""

    @property
    def identity(self) -> Identity:
        """What a saved state depends on. Any thread; reads files at the first use. Raises StorageError."""

    @property
    def media(self) -> MediaReader | None:
        """Prepares images and sounds for prompts; None where the model takes none."""

    def decode_media(self, seq: int, start: int, chunk: MediaChunk) -> DecodeStatus:
        """Encode a chunk, unless that is cached, and compute it for ``seq`` at the positions from ``start`` on.

        All or nothing: NO_ROOM and ABORTED leave the sequence as it was, or empty where its memory cannot be cut.
        Raises NativeError.
        """

    def set_adapters(self, adapters: AdapterSet) -> None:
        """Decode with these adapters, and no others, from now on. Raises NativeError."""

    def save_state(self, seq: int) -> bytearray:
        """The cells of a sequence as bytes. Raises NativeError."""

    def restore_state(self, seq: int, state: Buffer) -> None:
        """Fill an empty sequence with saved cells. Raises NativeError; the sequence is empty then."""

    def decode(self, runs: Sequence[Run]) -> DecodeStatus:
        """Compute one batch of at most ``info.n_batch`` tokens. Raises NativeError on anything but a status."""

    def create_sampler(self, params: SamplingParams) -> Sampler:
        """A sampler of its own for one sequence. Raises InvalidRequest when the library refuses the params."""

    def abort(self) -> None:
        """Make a running decode return ABORTED soon. Any thread; stays set until ``clear_abort``."""

    def clear_abort(self) -> None:
        """Let decodes run again."""

    def close(self) -> None:
        """Free everything. Idempotent."""
