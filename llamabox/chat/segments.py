"""Tokens of prompts, piece by piece: a conversation comes again with each turn, and only what is new is tokenized.

Between two control tokens a tokenizer sees nothing of what lies beyond them, so the tokens of a stretch of text can be
kept. Where a vocabulary has control tokens that swallow white space beside them, they are no such borders.
"""

import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llamabox.chat.injection import ControlTokens

CAPACITY: Final = 8 * 1024 * 1024  # bytes of memory that pieces and their tokens take
_LONGEST: Final = CAPACITY // 8
_ENTRY: Final = 160  # bytes that an OrderedDict takes for an entry, about
_AROUND: Final = ("a \n", " \na")

type Tokenize = Callable[[str], Sequence[int]]


class Segments:
    """Splits trusted prompt text at control tokens, and keeps the tokens of what lies between. For one thread."""

    def __init__(self, controls: Mapping[str, int], finder: ControlTokens, tokenize: Tokenize) -> None:
        """``tokenize``: with control tokens recognised, without the start token."""
        self._controls = controls
        self._finder = finder
        self._tokenize = tokenize
        self._borders: dict[str, bool] = {}
        self._kept: OrderedDict[str, array[int]] = OrderedDict()  # arrays: a tuple's numbers take ten times as much
        self.size = 0  # bytes that are kept, about

    def split(self, text: str) -> list[str]:
        """The text in pieces whose tokens, one behind the other, are those of the whole."""
        pieces: list[str] = []
        begun = start = 0
        while (found := self._finder.find(text, start)) is not None:
            at, spelling = found
            start = at + len(spelling)
            if self._is_border(spelling):
                pieces += [piece for piece in (text[begun:at], spelling) if piece]
                begun = start
        return [*pieces, text[begun:]] if begun < len(text) else pieces

    def missing(self, pieces: Sequence[str]) -> list[str]:
        """Those of the pieces that are to be tokenized and given to ``keep``."""
        return list(dict.fromkeys(p for p in pieces if p not in self._controls and p not in self._kept))

    def join(self, pieces: Sequence[str], fresh: Mapping[str, Sequence[int]]) -> list[int]:
        """The tokens of all pieces; ``fresh``: those of the missing ones, which are kept from now on."""
        tokens: list[int] = []
        for piece in pieces:
            if piece in self._controls:
                tokens.append(self._controls[piece])
            elif piece in self._kept:
                self._kept.move_to_end(piece)
                tokens += self._kept[piece]
            else:
                tokens += fresh[piece]
                self._keep(piece, fresh[piece])
        return tokens

    def _keep(self, piece: str, tokens: Sequence[int]) -> None:
        kept = array("i", tokens)
        size = _size(piece, kept)
        if size > _LONGEST:
            return
        self._kept[piece] = kept
        self.size += size
        while self.size > CAPACITY:
            self.size -= _size(*self._kept.popitem(last=False))

    def _is_border(self, spelling: str) -> bool:
        """Whether the tokenizer takes the text on both sides of this control token as if it were alone."""
        known = self._borders.get(spelling)
        if known is None:
            before, after = _AROUND
            apart = [*self._tokenize(before), self._controls[spelling], *self._tokenize(after)]
            known = self._borders[spelling] = apart == list(self._tokenize(before + spelling + after))
        return known


def _size(piece: str, tokens: "array[int]") -> int:
    """Bytes that are kept for a piece."""
    return sys.getsizeof(piece) + sys.getsizeof(tokens) + _ENTRY
