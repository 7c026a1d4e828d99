"""Text to tokens and back, with every index checked: the library aborts the process on a bad one."""

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from engine.native.whole_vocab import find_empty, read_whole
from engine.text.info import FimTokens

_TYPE_NONE: Final = 0
_ATTR_UNKNOWN: Final = 1 << 0
_ATTR_CONTROL: Final = 1 << 3
_HIDDEN: Final = _ATTR_UNKNOWN | _ATTR_CONTROL  # what the library renders as nothing
_MAX_BYTES: Final = 2**31 - 1


class LlamaVocab:
    """The vocabulary of a loaded model; satisfies ``engine.text.backend.Vocab``. Thread-safe.

    ``handle`` is the native pointer, None once the model is closed: everything but what is cached raises ValueError
    then.
    """

    def __init__(self, lib: Any, handle: Any) -> None:
        self._lib = lib
        self.handle = handle
        self._users = 0  # threads that tokenize right now
        self._changed = threading.Condition()
        self.n_vocab: int = lib.llama_vocab_n_tokens(handle)
        self.vocab_type: int = lib.llama_vocab_type(handle)
        self._pieces: dict[bool, list[bytes | None]] = {flag: [None] * self.n_vocab for flag in (False, True)}
        if self.vocab_type == _TYPE_NONE:
            self.bos = self.eos = self.eot = self.sep = None
            self.add_bos = self.add_eos = self.add_sep = False
            self.suppressed: tuple[int, ...] = ()
            self.fim = FimTokens()
            return
        self.bos = self._special(lib.llama_vocab_bos)
        self.eos = self._special(lib.llama_vocab_eos)
        self.eot = self._special(lib.llama_vocab_eot)
        self.sep = self._special(lib.llama_vocab_sep)
        self.add_bos = bool(lib.llama_vocab_get_add_bos(handle))
        self.add_eos = bool(lib.llama_vocab_get_add_eos(handle))
        self.add_sep = bool(lib.llama_vocab_get_add_sep(handle))
        self.suppressed = self._suppressed()
        self.fim = FimTokens(
            prefix=self._special(lib.llama_vocab_fim_pre),
            suffix=self._special(lib.llama_vocab_fim_suf),
            middle=self._special(lib.llama_vocab_fim_mid),
            repository=self._special(lib.llama_vocab_fim_rep),
            separator=self._special(lib.llama_vocab_fim_sep),
        )

    def _special(self, getter: Any) -> int | None:
        token: int = getter(self.handle)
        return token if 0 <= token < self.n_vocab else None

    def _suppressed(self) -> tuple[int, ...]:
        count = ctypes.c_int32()
        tokens = self._lib.llama_vocab_get_suppress_tokens(self.handle, ctypes.byref(count))
        return tuple(token for token in tokens[: count.value] if 0 <= token < self.n_vocab) if count.value > 0 else ()

    def _open(self) -> Any:
        if self.handle is None:
            raise ValueError("the model has been closed")
        return self.handle

    @contextmanager
    def in_use(self) -> Iterator[Any]:
        """The native pointer, which ``close`` leaves alone meanwhile. Raises ValueError once closed."""
        with self._changed:
            handle = self._open()
            self._users += 1
        try:
            yield handle
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse further use and wait for the threads that tokenize right now. Idempotent."""
        with self._changed:
            self.handle = None
            self._changed.wait_for(lambda: self._users == 0)

    def check(self, token: int) -> int:
        """``token`` itself. Raises ValueError if the vocabulary has no such token."""
        if not 0 <= token < self.n_vocab:
            raise ValueError(f"token {token} is not in the vocabulary (0 to {self.n_vocab - 1})")
        return token

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of ``text``; control tokens are recognised in it only with ``parse_special``.

        Raises ValueError for a model without a tokenizer and for text of 2 GiB and more.
        """
        if self.vocab_type == _TYPE_NONE:
            raise ValueError("the model has no tokenizer")
        # A lone surrogate has no UTF-8 form; the library throws on invalid UTF-8.
        raw = text.encode("utf-8", "replace")
        if len(raw) > _MAX_BYTES:
            raise ValueError("the text is too long for the tokenizer")
        # Each byte is at most one token in every tokenizer but those that add a prefix: those ask for more below.
        room = len(raw) + 8
        with self.in_use() as handle:
            while True:
                tokens = (ctypes.c_int32 * room)()
                n: int = self._lib.llama_tokenize(handle, raw, len(raw), tokens, room, add_special, parse_special)
                if n >= 0:
                    return tokens[:n]
                if -n <= room:
                    raise ValueError("the tokenizer refuses the text")
                room = -n

    def piece(self, token: int, *, special: bool) -> bytes:
        """Bytes of one token; b"" for a control token unless ``special``. Raises ValueError out of range."""
        cache = self._pieces[special]
        cached = cache[self.check(token)]
        if cached is None:
            cached = cache[token] = self._read_piece(token, special=special)
        return cached

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        if self.vocab_type == _TYPE_NONE:
            return b""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            n: int = self._lib.llama_token_to_piece(self._open(), token, buffer, room, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    def pieces(self, first: int, last: int) -> list[bytes]:
        """Bytes of the tokens ``first`` … ``last - 1``, control tokens included. Raises ValueError out of range."""
        if first < last:
            self.check(first)
            self.check(last - 1)
        if self.vocab_type == _TYPE_NONE:
            return [b""] * (last - first)
        read, room = self._lib.llama_token_to_piece, 256
        buffer = ctypes.create_string_buffer(room)
        pieces: list[bytes] = []
        with self.in_use() as handle:
            for token in range(first, last):
                n: int = read(handle, token, buffer, room, 0, True)
                pieces.append(buffer.raw[:n] if n >= 0 else self.piece(token, special=True))
        return pieces

    def attributes(self, token: int) -> int:
        """The bit set of ``llama_token_attr``. Raises ValueError out of range."""
        self.check(token)
        return 0 if self.vocab_type == _TYPE_NONE else int(self._lib.llama_vocab_get_attr(self._open(), token))

    def is_control(self, token: int) -> bool:
        """Whether the token is a marker rather than text. Raises ValueError out of range."""
        return bool(self.attributes(token) & _ATTR_CONTROL)

    def control_tokens(self) -> tuple[int, ...]:
        """All markers, ascending. The first call takes some hundredths of a second for a large vocabulary."""
        return self._control_tokens

    def whole(self) -> list[bytes] | None:
        """Bytes of all tokens, control tokens included; None where they can only be had one by one, by ``pieces``.

        Raises ValueError once closed.
        """
        if self.vocab_type == _TYPE_NONE:
            return [b""] * self.n_vocab
        markers = dict.fromkeys(token for token in (self.eot, self.eos, self.bos, self.sep) if token is not None)
        with self.in_use() as handle:
            return read_whole(self._lib, handle, self.n_vocab, markers)

    @functools.cached_property
    def _control_tokens(self) -> tuple[int, ...]:
        if self.vocab_type == _TYPE_NONE:
            return ()
        pieces = self.whole()
        attributes = self._lib.llama_vocab_get_attr
        with self.in_use() as handle:
            empty = None if pieces is None else find_empty(self._lib, handle, pieces)
            candidates = range(self.n_vocab) if empty is None else empty
            return tuple(token for token in candidates if attributes(handle, token) & _HIDDEN)

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation. Raises ValueError out of range."""
        self.check(token)
        return self.vocab_type != _TYPE_NONE and bool(self._lib.llama_vocab_is_eog(self._open(), token))

    @functools.cached_property
    def eog(self) -> tuple[int, ...]:
        """All tokens that end a generation, ascending; the library makes each of them a control token."""
        return tuple(token for token in self.control_tokens() if self.is_eog(token))
