"""Reads the texts of a whole vocabulary by one native call instead of one for each token.

``llama_detokenize`` joins the texts of many tokens without saying where each ends. With a token between all of them
whose text is known the result can be taken apart again, provided that this text cannot be mistaken.
"""

import ctypes
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

_BYTES_PER_TOKEN: Final = 24  # a guess at what a token and the one behind it need
_SHORTEST: Final = 14  # bytes of a text that hardly is a part of another one
_LONGEST: Final = 32
_MOST_TRIED: Final = 64
# Some vocabularies have the library tidy up what it joins. Then none of these is left.
_UNTIDY: Final = (b" .", b" ,", b" ?", b" !")


def read_whole(lib: Any, vocab: Any, n_vocab: int, separators: Iterable[int]) -> list[bytes] | None:
    """The texts of all tokens, control tokens included; None where they cannot be told apart for certain.

    One of ``separators``, tokens that may be control tokens, comes between them.
    """
    for separator in separators:
        text = _detokenize(lib, vocab, np.array([separator], dtype=np.int32), special=True)
        if not _is_borderless(text):
            continue
        pieces = _between(lib, vocab, n_vocab, separator, text, special=True)
        if pieces is not None:
            return pieces if any(mark in piece for piece in pieces for mark in _UNTIDY) else None
    return None


def find_empty(lib: Any, vocab: Any, pieces: list[bytes]) -> list[int] | None:
    """The tokens, ascending, that the library renders as nothing where control tokens are not wanted.

    ``pieces``: the texts of all tokens. None where that cannot be told for certain.
    """
    joined = b"\n".join(pieces)
    tried = 0
    for token, text in enumerate(pieces):
        if not (_SHORTEST <= len(text) <= _LONGEST and text.isalpha() and _is_borderless(text)):
            continue
        if joined.count(text) == 1 and _detokenize(lib, vocab, np.array([token], dtype=np.int32), special=False):
            plain = _between(lib, vocab, len(pieces), token, text, special=False)
            return None if plain is None else [token for token, piece in enumerate(plain) if not piece]
        tried += 1
        if tried == _MOST_TRIED:
            return None
    return None


def _is_borderless(text: bytes) -> bool:
    """Whether no beginning of the text is an end of it: two of its occurrences can then never overlap."""
    return len(text) > 1 and not any(text.startswith(text[start:]) for start in range(1, len(text)))


def _between(lib: Any, vocab: Any, n_vocab: int, separator: int, text: bytes, *, special: bool) -> list[bytes] | None:
    """The texts of all tokens, found between separators; None when a text contains the separator's."""
    ids = np.full(2 * n_vocab + 1, separator, dtype=np.int32)
    ids[1::2] = np.arange(n_vocab, dtype=np.int32)
    # Its own place stays empty: three of them in a row would look like two empty texts.
    ids = np.delete(ids, [2 * separator + 1])
    first, *pieces, last = _detokenize(lib, vocab, ids, special=special).split(text)
    if len(pieces) != n_vocab or first or last:
        return None
    pieces[separator] = text
    return pieces


def _detokenize(lib: Any, vocab: Any, ids: "np.ndarray[Any, np.dtype[np.int32]]", *, special: bool) -> bytes:
    """The joined texts of the tokens, an int32 array."""
    room = _BYTES_PER_TOKEN * len(ids)
    tokens = ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    while True:
        buffer = ctypes.create_string_buffer(room)
        n: int = lib.llama_detokenize(vocab, tokens, len(ids), buffer, room, False, special)
        if n >= 0:
            return buffer.raw[:n]
        room = -n
