"""Tokenizing, pieces, and ids out of range."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.native.model import Model
from engine.native.options import ModelOptions
from engine.native.vocab import LlamaVocab
from tests.models.tiny_llm import BOS, EOS, FIRST_BYTE, N_VOCAB, vocabulary

IDS = {text: token for token, (text, _, _) in enumerate(vocabulary())}


@pytest.fixture(scope="module")
def vocab(tiny_model: Path) -> Iterator[LlamaVocab]:
    model = Model(ModelOptions(path=str(tiny_model)))
    yield model.vocab
    model.close()


def test_special_tokens(vocab: LlamaVocab) -> None:
    assert (vocab.n_vocab, vocab.bos, vocab.eos, vocab.eot) == (N_VOCAB, BOS, EOS, IDS["<|im_end|>"])
    assert vocab.add_bos
    assert not vocab.add_eos
    assert vocab.vocab_type == 1
    assert vocab.eog == (EOS, IDS["<|im_end|>"])
    assert vocab.is_eog(EOS)
    assert not vocab.is_eog(BOS)


@pytest.mark.parametrize("text", ["", "the cat", "a\0b", "héllo ☃ 🦙", "x" * 5000, "\n\t "])
def test_text_survives_the_round_trip(vocab: LlamaVocab, text: str) -> None:
    tokens = vocab.tokenize(text, add_special=False, parse_special=False)
    assert b"".join(vocab.piece(token, special=False) for token in tokens).decode() == text


def test_markers_are_text_unless_parsed(vocab: LlamaVocab) -> None:
    text = "<|im_start|>user"
    parsed = vocab.tokenize(text, add_special=False, parse_special=True)
    plain = vocab.tokenize(text, add_special=False, parse_special=False)
    assert parsed[0] == IDS["<|im_start|>"]
    assert IDS["<|im_start|>"] not in plain


def test_begin_of_text_on_demand(vocab: LlamaVocab) -> None:
    assert vocab.tokenize("a", add_special=True, parse_special=False)[0] == BOS
    assert vocab.tokenize("a", add_special=False, parse_special=False)[0] != BOS


def test_lone_surrogate_does_no_harm(vocab: LlamaVocab) -> None:
    assert vocab.tokenize("\ud800", add_special=False, parse_special=False) == [IDS["?"]]


def test_control_pieces_are_empty_unless_special(vocab: LlamaVocab) -> None:
    token = IDS["<|im_end|>"]
    assert vocab.piece(token, special=False) == b""
    assert vocab.piece(token, special=True) == b"<|im_end|>"
    assert vocab.is_control(token)
    assert vocab.piece(FIRST_BYTE + 0xE2, special=False) == b"\xe2"
    assert not vocab.is_control(FIRST_BYTE)


@pytest.mark.parametrize("token", [-1, N_VOCAB, 2**31 - 1, -(2**31), 2**40])
def test_ids_out_of_range_are_refused(vocab: LlamaVocab, token: int) -> None:
    with pytest.raises(ValueError, match="not in the vocabulary"):
        vocab.piece(token, special=True)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        vocab.is_eog(token)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        vocab.attributes(token)


def test_close_waits_for_a_thread_that_tokenizes(tiny_model: Path) -> None:
    """The library must not free what it is reading."""
    model = Model(ModelOptions(path=str(tiny_model)))
    vocab = model.vocab
    inside, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def tokenize(*args: object) -> int:
        inside.set()
        leave.wait()
        return 0

    class Library:
        llama_tokenize = staticmethod(tokenize)

    vocab._lib = Library()
    user = threading.Thread(target=lambda: vocab.tokenize("text", add_special=False, parse_special=False))
    user.start()
    inside.wait()
    closer = threading.Thread(target=lambda: (vocab.close(), closed.set()))
    closer.start()
    with vocab._changed:  # whoever closes waits without the lock
        assert not closed.is_set()
    leave.set()
    user.join()
    closer.join()
    with pytest.raises(ValueError, match="closed"):
        vocab.tokenize("text", add_special=False, parse_special=False)
    model.close()


def test_the_tokens_around_holes(vocab: LlamaVocab):
    fim = vocab.fim
    texts = [vocab.piece(token, special=True) for token in (fim.prefix, fim.suffix, fim.middle)]
    assert texts == [b"<|fim_prefix|>", b"<|fim_suffix|>", b"<|fim_middle|>"]
    assert (fim.repository, fim.separator, fim.missing) == (None, None, ())
