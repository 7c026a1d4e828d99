"""llama.cpp's sampling alone, as llama-server does it: every sampler, in its order, over the whole vocabulary.

What ours is measured against, and in tests compared with.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.native.candidates import CANDIDATE
from engine.text.requests import SamplingParams

type _Init = Callable[[Any, "_Facts"], Any]

_MIROSTAT_TOKENS: Final = 100


class _Facts:
    """What the samplers are made from."""

    def __init__(self, params: SamplingParams, n_vocab: int, vocab: Any) -> None:
        self.params = params
        self.n_vocab = n_vocab
        self.vocab = vocab
        self.seed = 0 if params.seed is None else params.seed


def _penalties(lib: Any, facts: _Facts) -> Any:
    p = facts.params
    return lib.llama_sampler_init_penalties(
        facts.n_vocab, p.repeat_last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty
    )


def _dry(lib: Any, facts: _Facts) -> Any:
    p = facts.params
    breakers = [text.encode() for text in p.dry_sequence_breakers]
    array = (ctypes.c_char_p * len(breakers))(*breakers)
    return lib.llama_sampler_init_dry(
        facts.vocab, p.dry_multiplier, p.dry_base, p.dry_allowed_length, p.dry_penalty_last_n, array, len(breakers)
    )


def _xtc(lib: Any, facts: _Facts) -> Any:
    p = facts.params
    return lib.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, p.min_keep, facts.seed)


def _temperature(lib: Any, facts: _Facts) -> Any:
    p = facts.params
    return lib.llama_sampler_init_temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent)


_INITS: Final[dict[str, _Init]] = {
    "penalties": _penalties,
    "dry": _dry,
    "top_k": lambda lib, facts: lib.llama_sampler_init_top_k(facts.params.top_k),
    "typ_p": lambda lib, facts: lib.llama_sampler_init_typical(facts.params.typical_p, facts.params.min_keep),
    "top_p": lambda lib, facts: lib.llama_sampler_init_top_p(facts.params.top_p, facts.params.min_keep),
    "min_p": lambda lib, facts: lib.llama_sampler_init_min_p(facts.params.min_p, facts.params.min_keep),
    "xtc": _xtc,
    "temperature": _temperature,
    "top_n_sigma": lambda lib, facts: lib.llama_sampler_init_top_n_sigma(facts.params.top_n_sigma),
}


class NativeSampling:
    """One native chain for one sequence. ``vocab`` is the native vocabulary, which only DRY looks at.

    ``greedy``: the library's own argmax behind the samplers, whatever the temperature says.
    """

    def __init__(self, lib: Any, vocab: Any, n_vocab: int, params: SamplingParams, *, greedy: bool = False) -> None:
        self._lib = lib
        chain = lib.llama_sampler_chain_default_params()
        chain.no_perf = True
        self.handle = lib.llama_sampler_chain_init(chain)
        facts = _Facts(params, n_vocab, vocab)
        if params.logit_bias:
            biases = [lib.llama_logit_bias(token=token, bias=bias) for token, bias in params.logit_bias]
            array = (lib.llama_logit_bias * len(biases))(*biases)
            self._add(lib.llama_sampler_init_logit_bias(n_vocab, len(biases), array))
        if params.mirostat:
            self._add(lib.llama_sampler_init_temp(params.temperature))
            tau, eta = params.mirostat_tau, params.mirostat_eta
            if params.mirostat == 1:
                self._add(lib.llama_sampler_init_mirostat(n_vocab, facts.seed, tau, eta, _MIROSTAT_TOKENS))
            else:
                self._add(lib.llama_sampler_init_mirostat_v2(facts.seed, tau, eta))
        else:
            for name in params.samplers:
                self._add(_INITS[name](lib, facts))
            self._add(lib.llama_sampler_init_greedy() if greedy else lib.llama_sampler_init_dist(facts.seed))
        self._rows = np.zeros(n_vocab, CANDIDATE)
        self._ids = np.arange(n_vocab, dtype=np.int32)

    def _add(self, sampler: Any) -> None:
        self._lib.llama_sampler_chain_add(self.handle, sampler)

    def accept(self, tokens: Sequence[int]) -> None:
        """Count tokens into the history."""
        for token in tokens:
            self._lib.llama_sampler_accept(self.handle, token)

    def sample(self, context: Any, index: int) -> int:
        """Draw and accept, in one call of the library; ``context``: the native one."""
        token: int = self._lib.llama_sampler_sample(self.handle, context, index)
        return token

    def choose(
        self, logits: NDArray[np.float32], allowed: NDArray[np.intp] | None = None
    ) -> tuple[int, dict[int, float]]:
        """Draw from a row, float32[n_vocab], without accepting; ``allowed``: only these tokens exist.

        Returns the token, and the probabilities that it was drawn with.
        """
        ids = self._ids if allowed is None else allowed
        rows = self._rows[: len(ids)]
        rows["id"], rows["logit"] = ids, logits[ids]
        array = self._lib.llama_token_data_array(selected=-1, sorted=False, size=len(ids))
        array.data = ctypes.cast(rows.ctypes.data, self._lib.llama_token_data_p)
        self._lib.llama_sampler_apply(self.handle, ctypes.byref(array))
        left = ctypes.cast(array.data, ctypes.POINTER(ctypes.c_char * (array.size * CANDIDATE.itemsize))).contents
        found = np.frombuffer(left, CANDIDATE)
        token = int(found["id"][array.selected])
        return token, dict(zip(found["id"].tolist(), found["p"].tolist(), strict=True))

    def close(self) -> None:
        """Free it. Idempotent."""
        if self.handle is not None:
            self._lib.llama_sampler_free(self.handle)
            self.handle = None


def forbid(tokens: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """The ``logit_bias`` that forbids the tokens."""
    return tuple((token, -math.inf) for token in tokens)
