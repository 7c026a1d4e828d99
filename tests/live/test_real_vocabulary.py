"""The real vocabulary: read at once it is the one that is read token by token, and grammars hold with its tokens."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from engine.guidance.grammars import GuidanceGrammars
from engine.native.model import Model
from engine.native.options import ModelOptions
from engine.text.requests import GrammarSpec
from llamabox.chat.grammar.lark import Lark
from tests.live.test_tools import PERSON


@pytest.fixture(scope="module")
def model(demo_model: Path) -> Iterator[Model]:
    model = Model(ModelOptions(path=str(demo_model)))
    yield model
    model.close()


def test_the_real_vocabulary(model: Model) -> None:
    vocab = model.vocab
    assert vocab.whole() == vocab.pieces(0, vocab.n_vocab)
    hidden = tuple(
        token
        for token in range(vocab.n_vocab)
        if vocab.piece(token, special=False) == b"" != vocab.piece(token, special=True)
    )
    assert vocab.control_tokens() == hidden


def test_a_hundred_texts_by_schema_validate(model: Model) -> None:
    """Only the masks choose: unlike a model's texts these go wherever they may."""
    grammars = GuidanceGrammars(model.vocab, model.lib.llama_tokenize)
    lark = Lark()
    grammar = grammars.compile(GrammarSpec(source=lark.source(lark.json(PERSON))))
    dice = random.Random(0)
    people = []
    for _ in range(100):
        matcher, text = grammar.matcher(), b""
        while not matcher.complete:
            matcher.compute_mask()
            allowed = np.flatnonzero(np.unpackbits(np.frombuffer(matcher.mask, np.uint8), bitorder="little"))
            token = int(dice.choice(allowed))
            assert matcher.consume((token,)), matcher.error
            text += model.vocab.piece(token, special=False)
        people.append(json.loads(text))
        jsonschema.validate(people[-1], PERSON)
    grammars.close()
    assert len({person["age"] for person in people}) > 20
    assert {len(person["tags"]) for person in people} == {0, 1, 2}
    assert {person["state"] for person in people} == {"single", "married"}
