"""The real vocabulary, read at once, is the one that is read token by token."""

from pathlib import Path

from engine.native.model import Model
from engine.native.options import ModelOptions


def test_the_real_vocabulary(demo_model: Path) -> None:
    model = Model(ModelOptions(path=str(demo_model)))
    vocab = model.vocab
    assert vocab.whole() == vocab.pieces(0, vocab.n_vocab)
    hidden = tuple(
        token
        for token in range(vocab.n_vocab)
        if vocab.piece(token, special=False) == b"" != vocab.piece(token, special=True)
    )
    assert vocab.control_tokens() == hidden
    model.close()
