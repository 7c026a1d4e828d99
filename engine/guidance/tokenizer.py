"""llguidance's view of a vocabulary: its texts in a trie, made once for a model."""

import ctypes
from collections.abc import Callable
from typing import Any, Final

from engine.errors import EngineUnavailable
from engine.guidance import library
from engine.native.vocab import LlamaVocab

_CONTROL: Final = b"\xff"  # no text begins with it: how llguidance tells control tokens
_AT_ONCE: Final = 4096  # tokens between two looks at whether to go on


def build_tokenizer(vocab: LlamaVocab, tokenize: Any, stopped: Callable[[], bool]) -> Any:
    """An ``LLTokenizer``; for 150,000 tokens it takes a second, half of which holds the interpreter.

    ``tokenize`` is the native function ``llama_tokenize``: the result calls it with the vocabulary, which must live as
    long as anything is done with the result. Raises EngineUnavailable when ``stopped`` says so meanwhile, ValueError
    for a model without a tokenizer.
    """
    if not vocab.eog:
        raise ValueError("the model has no tokenizer, or no token that ends a text")
    control = frozenset(vocab.control_tokens())
    tokens = vocab.whole() or []
    for first in range(len(tokens), vocab.n_vocab, _AT_ONCE):
        if stopped():
            raise EngineUnavailable("the server is shutting down")
        tokens += vocab.pieces(first, min(first + _AT_ONCE, vocab.n_vocab))
    for token in control:
        tokens[token] = _CONTROL + tokens[token]
    with vocab.in_use() as handle:
        return library.load().LLTokenizer.from_llamacpp(
            tokens=tokens,
            vocab_ptr=handle,
            tokenize_fptr=ctypes.cast(tokenize, ctypes.c_void_p).value,
            eos_token=list(vocab.eog),
            slices=None,  # the library's own choice; without any it builds faster and every mask takes longer
        )
