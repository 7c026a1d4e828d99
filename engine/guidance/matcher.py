"""llguidance's matcher and a grammar made of it, behind the engine's own protocols."""

from collections.abc import Buffer, Sequence
from typing import Any

import attrs
import numpy as np

from engine.guidance.reason import readable
from engine.text.requests import GrammarSpec


class GuidanceMatcher:
    """Satisfies ``engine.text.requests.Matcher`` over an ``LLMatcher``, which it alone uses."""

    def __init__(self, native: Any, tokenizer: Any) -> None:
        self._native = native
        self._tokenizer = tokenizer
        self._words = np.zeros((tokenizer.vocab_size + 31) // 32, np.int32)
        self._target = (self._words.ctypes.data, self._words.nbytes)

    @property
    def mask(self) -> Buffer:
        """See ``Matcher.mask``."""
        return self._words.data

    @property
    def complete(self) -> bool:
        """See ``Matcher.complete``."""
        native = self._native
        return bool(native.is_stopped() and native.is_accepting())

    @property
    def error(self) -> str:
        """See ``Matcher.error``."""
        native = self._native
        if native.is_error():
            return readable(native.get_error())
        if native.is_stopped() and not native.is_accepting():
            return f"no text is possible here ({native.stop_reason()})"
        return ""

    def compute_mask(self) -> None:
        """See ``Matcher.compute_mask``."""
        self._native.unsafe_compute_mask_ptr(*self._target)

    def forced(self) -> list[int]:
        """See ``Matcher.forced``."""
        tokens: list[int] = self._native.compute_ff_tokens()
        # Some tokenizers put a blank before every text; what they make of forced text does not fit then.
        return tokens[: self._native.validate_tokens(tokens)] if tokens else tokens

    def tokenize(self, data: bytes) -> list[int]:
        """See ``Matcher.tokenize``."""
        tokens: list[int] = self._tokenizer.tokenize_bytes(data)
        return tokens

    def validate(self, tokens: Sequence[int]) -> int:
        """See ``Matcher.validate``."""
        return int(self._native.validate_tokens(list(tokens)))

    def consume(self, tokens: Sequence[int]) -> bool:
        """See ``Matcher.consume``."""
        return bool(self._native.consume_tokens(list(tokens)))


@attrs.frozen
class GuidanceGrammar:
    """Satisfies ``engine.text.requests.Grammar``: an ``LLMatcher`` that stays at its beginning and is copied."""

    spec: GrammarSpec
    _prototype: Any
    _tokenizer: Any

    def matcher(self) -> GuidanceMatcher:
        """See ``Grammar.matcher``. A copy takes microseconds."""
        return GuidanceMatcher(self._prototype.deep_copy(), self._tokenizer)
