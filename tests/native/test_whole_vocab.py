"""A vocabulary read by one call is the one that is read token by token, or it is not read so at all."""

import ctypes
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native.whole_vocab import find_empty, read_whole

END = b"<|end|>"
WORD = b"incomprehensibility"
TEXTS = [b"a", b" .", b"", b"\xff", b"a b", WORD, END, b"<|", b"|end|>", b"<unk>"]
HIDDEN = frozenset({TEXTS.index(END), TEXTS.index(b"<unk>")})


@attrs.frozen
class Library:
    """The one function, over texts of tokens. ``tidy``: whether it takes spaces away from what it has joined."""

    texts: list[bytes]
    hidden: frozenset[int] = HIDDEN
    tidy: bool = False

    def llama_detokenize(
        self, vocab: object, tokens: Any, n: int, buffer: Any, room: int, remove_special: bool, special: bool
    ) -> int:
        shown = (token for token in tokens[:n] if special or token not in self.hidden)
        joined = b"".join(self.texts[token] for token in shown)
        if self.tidy:
            joined = joined.replace(b" .", b".")
        if len(joined) > room:
            return -len(joined)
        ctypes.memmove(buffer, joined, len(joined))
        return len(joined)


def test_all_texts() -> None:
    assert read_whole(Library(TEXTS), None, len(TEXTS), [TEXTS.index(END)]) == TEXTS


def test_long_texts_need_a_second_look() -> None:
    texts = [*TEXTS, b"x" * 5000]
    assert read_whole(Library(texts), None, len(texts), [TEXTS.index(END)]) == texts


def test_a_library_that_tidies_up_is_not_asked() -> None:
    assert read_whole(Library(TEXTS, tidy=True), None, len(TEXTS), [TEXTS.index(END)]) is None


def test_nor_is_one_of_which_that_cannot_be_told() -> None:
    texts = [text for text in TEXTS if text != b" ."]
    assert read_whole(Library(texts), None, len(texts), [texts.index(END)]) is None


@pytest.mark.parametrize("separator", [b"", b"a", b"aba", b"<|"])
def test_a_separator_that_could_be_mistaken_is_passed_over(separator: bytes) -> None:
    """Too short, beginning as it ends, or a part of another text."""
    texts = [*TEXTS, separator]
    last = len(texts) - 1
    assert read_whole(Library(texts), None, len(texts), [last]) is None
    assert read_whole(Library(texts), None, len(texts), [last, texts.index(END)]) == texts


@given(texts=st.lists(st.binary(max_size=12) | st.text("<|end>", max_size=9).map(str.encode), max_size=20))
def test_what_is_read_is_what_is_there(texts: list[bytes]) -> None:
    texts = [*texts, b" .", END]
    assert read_whole(Library(texts), None, len(texts), range(len(texts))) in (None, texts)


def test_what_is_hidden_shows_nothing() -> None:
    expected = [token for token, text in enumerate(TEXTS) if not text or token in HIDDEN]
    assert find_empty(Library(TEXTS), None, TEXTS) == expected


@pytest.mark.parametrize("word", [b"short", b"inin" * 5, b"incomprehensible word", b"incomprehensibilit\xff"])
def test_without_a_word_to_tell_them_apart_the_hidden_ones_stay_unknown(word: bytes) -> None:
    texts = [word if text == WORD else text for text in TEXTS]
    assert find_empty(Library(texts), None, texts) is None


def test_a_hidden_word_does_not_tell_them_apart() -> None:
    hidden = HIDDEN | {TEXTS.index(WORD)}
    assert find_empty(Library(TEXTS, hidden), None, TEXTS) is None


def test_a_part_of_another_word_does_not_either() -> None:
    texts = [*TEXTS, b"x" + WORD]
    assert find_empty(Library(texts), None, texts) == [
        token for token, text in enumerate(texts) if not text or token in HIDDEN
    ]
    texts = [*TEXTS, b"x" + WORD * 2]
    assert find_empty(Library(texts), None, texts) is None
