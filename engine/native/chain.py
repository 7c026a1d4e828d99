"""Native sampler chains."""

import ctypes
from collections.abc import Sequence
from typing import Any, Final

from engine.errors import InvalidRequest, NativeError
from engine.native.sampling_plan import SamplingPlan
from engine.native.vocab import LlamaVocab
from engine.text.requests import SamplingParams

_MIROSTAT_TOKENS: Final = 100  # how many tokens mirostat 1 estimates the slope from; llama.cpp's own choice
_HISTORY: Final = frozenset({"penalties", "dry"})  # samplers that look back at accepted tokens
_MOST_PROTOTYPES: Final = 16


class ChainFactory:
    """Builds the chains of one context; ``n_ctx`` is the window of penalties that look back over everything."""

    def __init__(self, lib: Any, vocab: LlamaVocab, n_ctx: int) -> None:
        self._lib = lib
        self._vocab = vocab
        self._n_ctx = n_ctx
        # A DRY sampler searches the whole vocabulary for its breakers when it is made (0.1 s); a clone does not.
        self._dry_prototypes: dict[tuple[Any, ...], Any] = {}

    def window(self, last_n: int) -> int:
        """Tokens that a penalty looks back: ``last_n``, where -1 means the context."""
        return self._n_ctx if last_n < 0 else min(last_n, self._n_ctx)

    def create(self, plan: SamplingPlan) -> "Chain":
        """The chain for ``plan.stages`` and the choice at its end. Raises InvalidRequest if the library refuses."""
        params = self._lib.llama_sampler_chain_default_params()
        params.no_perf = True
        handle = self._lib.llama_sampler_chain_init(params)
        if not handle:
            raise NativeError("the library cannot create a sampler chain")
        chain = Chain(self._lib, handle, self._history(plan))
        try:
            for name in plan.stages:
                if name == "mirostat":
                    chain.add("temperature", self._lib.llama_sampler_init_temp(plan.params.temperature))
                chain.add(name, self._init(name, plan))
            if not plan.greedy and "mirostat" not in plan.stages:
                chain.add("seed", self._lib.llama_sampler_init_dist(plan.seed))
            elif plan.greedy:
                chain.add("temperature", self._lib.llama_sampler_init_greedy())
        except BaseException:
            chain.close()
            raise
        return chain

    def close(self) -> None:
        """Free what is kept for reuse. Idempotent."""
        while self._dry_prototypes:
            self._lib.llama_sampler_free(self._dry_prototypes.popitem()[1])

    def _history(self, plan: SamplingPlan) -> int:
        """Tokens of a prompt that the chain's samplers look back at."""
        windows = {
            "penalties": self.window(plan.params.repeat_last_n),
            "dry": self.window(plan.params.dry_penalty_last_n),
        }
        return max((windows[name] for name in plan.stages if name in _HISTORY), default=0)

    def _init(self, name: str, plan: SamplingPlan) -> Any:
        lib, params = self._lib, plan.params
        n_vocab = self._vocab.n_vocab
        min_keep = min(params.min_keep, n_vocab)
        match name:
            case "penalties":
                return lib.llama_sampler_init_penalties(
                    n_vocab,
                    self.window(params.repeat_last_n),
                    params.repeat_penalty,
                    params.frequency_penalty,
                    params.presence_penalty,
                )
            case "dry":
                return self._dry(params)
            case "top_k":
                return lib.llama_sampler_init_top_k(min(params.top_k, n_vocab))
            case "typ_p":
                return lib.llama_sampler_init_typical(params.typical_p, min_keep)
            case "top_p":
                return lib.llama_sampler_init_top_p(params.top_p, min_keep)
            case "min_p":
                return lib.llama_sampler_init_min_p(params.min_p, min_keep)
            case "xtc":
                return lib.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, min_keep, plan.seed)
            case "temperature":
                return self._temperature(params, greedy=plan.greedy)
            case "top_n_sigma":
                return lib.llama_sampler_init_top_n_sigma(params.top_n_sigma)
            case "mirostat":
                return self._mirostat(params, plan.seed)
            case _:
                raise InvalidRequest(f"unknown sampler {name!r}", "samplers")

    def _temperature(self, params: SamplingParams, *, greedy: bool) -> Any:
        if greedy:
            return self._lib.llama_sampler_init_temp(0.0)
        if params.dynatemp_range <= 0:
            return self._lib.llama_sampler_init_temp(params.temperature)
        return self._lib.llama_sampler_init_temp_ext(
            params.temperature, params.dynatemp_range, params.dynatemp_exponent
        )

    def _mirostat(self, params: SamplingParams, seed: int) -> Any:
        if params.mirostat == 1:
            return self._lib.llama_sampler_init_mirostat(
                self._vocab.n_vocab, seed, params.mirostat_tau, params.mirostat_eta, _MIROSTAT_TOKENS
            )
        return self._lib.llama_sampler_init_mirostat_v2(seed, params.mirostat_tau, params.mirostat_eta)

    def _dry(self, params: SamplingParams) -> Any:
        # An empty text cannot break anything, and the library's strings end at a NUL.
        breakers = [text.encode("utf-8", "replace") for text in params.dry_sequence_breakers if text]
        if any(b"\0" in breaker for breaker in breakers):
            raise InvalidRequest("a sequence breaker must not contain NUL", "dry_sequence_breakers")
        arguments = (
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            self.window(params.dry_penalty_last_n),
        )
        key = (*arguments, *breakers)
        if key not in self._dry_prototypes:
            array = (ctypes.c_char_p * len(breakers))(*breakers)
            prototype = self._lib.llama_sampler_init_dry(self._vocab.handle, *arguments, array, len(breakers))
            if not prototype:
                return prototype
            if len(self._dry_prototypes) == _MOST_PROTOTYPES:
                oldest = next(iter(self._dry_prototypes))
                self._lib.llama_sampler_free(self._dry_prototypes.pop(oldest))
            self._dry_prototypes[key] = prototype
        return self._lib.llama_sampler_clone(self._dry_prototypes[key])


class Chain:
    """One native chain; it owns its samplers. Used by one thread at a time."""

    def __init__(self, lib: Any, handle: Any, history: int) -> None:
        self._lib = lib
        self._handle = handle
        self._history = history

    def add(self, param: str, sampler: Any) -> None:
        """Append a native sampler. Raises InvalidRequest, naming ``param``, if its creation failed."""
        if not sampler:
            raise InvalidRequest(f"the library refuses the parameters of the sampler {param}", param)
        self._lib.llama_sampler_chain_add(self._handle, sampler)

    def apply(self, candidates: Any) -> int:
        """Run over a native candidate array that is not empty; returns the chosen token."""
        self._lib.llama_sampler_apply(self._handle, ctypes.byref(candidates))
        if not 0 <= candidates.selected < candidates.size:
            raise NativeError("the sampler chain chose nothing")
        return int(candidates.data[candidates.selected].id)

    def accept(self, tokens: Sequence[int]) -> None:
        """Append to the history of the samplers that have one."""
        if not self._history:
            return
        accept, handle = self._lib.llama_sampler_accept, self._handle
        for token in tokens[-self._history :]:
            accept(handle, token)

    def close(self) -> None:
        """Free the chain and its samplers. Idempotent."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        self._lib.llama_sampler_free(handle)
