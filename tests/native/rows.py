"""Samplers over rows of logits that a test makes up, of any size; the library's own sampling beside them."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.native.model import Model
from engine.native.sampler import LlamaSampler, SamplerFactory
from engine.text.requests import SamplingParams
from tools.bench.native_sampling import NativeSampling


class Rows:
    """Stands in for a context whose last decode left ``row``; DRY looks up its breakers in the model's vocabulary."""

    def __init__(self, model: Model, row: NDArray[np.float32]) -> None:
        self.row = row
        self.n_vocab = len(row)
        self.n_ctx = 4096
        self.model = SimpleNamespace(lib=model.lib, vocab=self)
        self.handle = model.vocab.handle
        self.eog = self.suppressed = ()
        self.factory = SamplerFactory(self)

    def piece(self, token: int, *, special: bool) -> bytes:
        return str(token).encode()

    def logits_row(self, index: int) -> NDArray[np.float32]:
        return self.row

    def sampler(self, params: SamplingParams, history: Sequence[int] = ()) -> LlamaSampler:
        sampler = self.factory.create(params)
        sampler.accept(history)
        return sampler

    def native(self, params: SamplingParams, history: Sequence[int] = (), **options: Any) -> NativeSampling:
        native = NativeSampling(self.model.lib, self.handle, self.n_vocab, params, **options)
        native.accept(history)
        return native


def mask_of(tokens: Iterable[int], n_vocab: int) -> bytes:
    """The tokens as bits, in whole words of 32."""
    bits = np.zeros(-(-n_vocab // 32) * 32, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").tobytes()
