"""Grammars without a library: a source is the texts that it allows, separated by ``|``; tokens are bytes or pieces."""

import os
from collections.abc import Buffer, Sequence
from typing import Protocol

import attrs

from engine.errors import InvalidRequest
from engine.text.requests import GrammarSpec, Trigger


class Pieces(Protocol):
    """What a matcher needs of a vocabulary."""

    n_vocab: int

    def piece(self, token: int, *, special: bool) -> bytes: ...

    def is_eog(self, token: int) -> bool: ...


class TextsMatcher:
    """Satisfies engine.text.requests.Matcher. An end token may follow a text; ``$`` in it makes the matcher fail."""

    def __init__(self, texts: Sequence[bytes], vocab: Pieces) -> None:
        self._texts = tuple(texts)
        self._vocab = vocab
        self._bits = bytearray((vocab.n_vocab + 31) // 32 * 4)
        self.text = b""
        self.error = ""
        self.n_masks = 0
        self.mask_is_current = False

    @property
    def mask(self) -> Buffer:
        assert self.mask_is_current, "the mask of another state"
        return self._bits

    @property
    def complete(self) -> bool:
        return not self.error and self.text in self._texts and len(self._ways(self.text)) == 1

    def _ways(self, text: bytes) -> list[bytes]:
        return [way for way in self._texts if way.startswith(text)]

    def _may(self, text: bytes, token: int) -> bool:
        if self._vocab.is_eog(token):
            return text in self._texts
        piece = self._vocab.piece(token, special=True)
        return bool(piece) and any(way.startswith(text + piece) for way in self._texts)

    def compute_mask(self) -> None:
        self.n_masks += 1
        self._bits[:] = bytes(len(self._bits))
        for token in range(self._vocab.n_vocab):
            if self._may(self.text, token):
                self._bits[token >> 3] |= 1 << (token & 7)
        self.mask_is_current = True
        if b"$" in {way[len(self.text) : len(self.text) + 1] for way in self._ways(self.text)}:
            self.error = "a dollar came"

    def forced(self) -> list[int]:
        ways = [way[len(self.text) :] for way in self._ways(self.text)]
        common = b"" if self.error else os.path.commonprefix(ways)  # noqa: RUF071  # of bytes, not of paths
        return list(common.partition(b"$")[0])

    def tokenize(self, data: bytes) -> list[int]:
        return list(data)

    def validate(self, tokens: Sequence[int]) -> int:
        text = self.text
        for count, token in enumerate(tokens):
            if not self._may(text, token):
                return count
            text += self._vocab.piece(token, special=True)
        return len(tokens)

    def consume(self, tokens: Sequence[int]) -> bool:
        self.mask_is_current = False
        if self.validate(tokens) < len(tokens):
            self.error = "refused"
            return False
        self.text += b"".join(self._vocab.piece(token, special=True) for token in tokens)
        return True


@attrs.define
class FakeGrammar:
    """Satisfies engine.text.requests.Grammar; remembers its matchers."""

    spec: GrammarSpec
    vocab: Pieces
    matchers: list[TextsMatcher] = attrs.field(factory=list)

    def matcher(self) -> TextsMatcher:
        self.matchers.append(TextsMatcher(self.spec.source.encode().split(b"|"), self.vocab))
        return self.matchers[-1]


@attrs.define
class FakeGrammars:
    """Satisfies engine.text.requests.Grammars."""

    vocab: Pieces

    def prepare(self) -> None:
        pass

    def compile(self, spec: GrammarSpec) -> FakeGrammar:
        if spec.source == "bad":
            raise InvalidRequest("a bad grammar")
        return FakeGrammar(spec, self.vocab)

    def of(self, texts: str, *triggers: Trigger) -> FakeGrammar:
        return self.compile(GrammarSpec(source=texts, triggers=triggers))
