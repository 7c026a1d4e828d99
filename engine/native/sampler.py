"""Draws tokens: an argmax where that is the answer, else a native chain over as few candidates as are needed."""

import math
import threading
from collections.abc import Buffer, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.native.candidates import (
    Candidates,
    best_index,
    log_sum_exp,
    near_top,
    nucleus,
    top_indices,
    top_superset,
)
from engine.native.chain import Chain, ChainFactory
from engine.native.context import Context
from engine.native.penalties import PenaltyWindow
from engine.native.sampling_plan import Choice, SamplingPlan, plan_sampling
from engine.native.softmax import SoftmaxDraw
from engine.native.token_mask import TokenMask
from engine.native.vocab import LlamaVocab
from engine.text.requests import SamplingParams, TokenInfo, TokenProb

# Of so many tokens beyond those needed, a grammar that allows many is expected to allow enough.
_SPARE: Final = 64
_NONE_ALLOWED: Final = "the request forbids every token that its grammar allows"


class _Scratch(threading.local):
    """Memory that a draw needs and that no draw leaves anything in: one set a thread, made on first use."""

    candidates: Candidates | None = None


class SamplerFactory:
    """Makes the samplers of one context. They may draw on several threads at once, each sampler on one at a time."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.vocab: LlamaVocab = context.model.vocab
        self._lib = context.model.lib
        self._chains = ChainFactory(self._lib, self.vocab, context.n_ctx)
        self._scratch = _Scratch()

    def create(self, params: SamplingParams) -> "LlamaSampler":
        """A sampler of its own for one sequence. Raises InvalidRequest when the params cannot be honoured."""
        eog = self.vocab.eog if params.ignore_eos else ()
        plan = plan_sampling(params, n_vocab=self.vocab.n_vocab, eog=eog, suppressed=self.vocab.suppressed)
        penalties = None
        if plan.penalties_first:
            penalties = PenaltyWindow(
                size=self._chains.window(params.repeat_last_n),
                repeat=params.repeat_penalty,
                frequency=params.frequency_penalty,
                presence=params.presence_penalty,
            )
        chain = self._chains.create(plan) if plan.choice is Choice.CHAIN else None
        return LlamaSampler(self, plan, penalties, chain)

    def close(self) -> None:
        """Free what is kept for reuse; samplers are closed by their owners. Idempotent."""
        self._chains.close()

    def scratch_candidates(self) -> Candidates:
        """The candidate array of the calling thread."""
        if self._scratch.candidates is None:
            self._scratch.candidates = Candidates(self._lib, self.vocab.n_vocab)
        return self._scratch.candidates


class LlamaSampler:
    """Satisfies ``engine.text.backend.Sampler``."""

    def __init__(
        self, factory: SamplerFactory, plan: SamplingPlan, penalties: PenaltyWindow | None, chain: Chain | None
    ) -> None:
        self._factory = factory
        self._vocab = factory.vocab
        self._plan = plan
        self._penalties = penalties
        self._chain = chain
        self._softmax = None
        if plan.choice is Choice.SOFTMAX:
            self._softmax = SoftmaxDraw(plan.seed, plan.params.temperature if plan.stages else 1.0)
        self._top_k = plan.params.top_k if plan.stages[:1] == ("top_k",) else 0
        self._bias_tokens = np.fromiter(plan.bias.keys(), np.intp, len(plan.bias))
        self._bias_values = np.fromiter(plan.bias.values(), np.float32, len(plan.bias))
        # The best token is the best one still when only others are forbidden.
        only_forbids = bool(np.all(self._bias_values == -np.inf))
        self._only_forbids = plan.choice is Choice.BEST and penalties is None and only_forbids

    def accept(self, tokens: Sequence[int]) -> None:
        """Count tokens into the history that penalties look at. Raises ValueError outside the vocabulary."""
        ids = np.asarray(tokens, np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self._vocab.n_vocab):
            raise ValueError(f"a token is not in the vocabulary (0 to {self._vocab.n_vocab - 1})")
        if self._penalties is not None:
            self._penalties.accept(tokens)
        if self._chain is not None:
            self._chain.accept(tokens)

    def sample(self, index: int, mask: Buffer | None = None) -> tuple[int, TokenInfo | None]:
        """Draw from the logits of batch index ``index`` of the last decode, and accept the token.

        ``mask``: see ``TokenMask``; None: any token. The info is given when the params ask for it. Raises ValueError
        when there are no logits at ``index``, InvalidRequest when every token is forbidden.
        """
        raw = self._factory.context.logits_row(index)
        allowed = None if mask is None else TokenMask(mask, len(raw))
        token = best_index(raw) if self._only_forbids else None
        if token is None or token in self._plan.bias or (allowed is not None and not allowed.allows(token)):
            changed = self._adjust(raw)
            try:
                token = self._choose(raw, allowed)
            finally:
                if changed is not None:
                    tokens, before = changed
                    raw[tokens] = before
        info = self._describe(token, raw)
        self.accept((token,))
        return token, info

    def describe(self, index: int, token: int) -> TokenInfo:
        """See ``engine.text.backend.Sampler``. Raises ValueError when there are no logits at ``index``."""
        return self._of_raw(token, self._factory.context.logits_row(index))

    def close(self) -> None:
        """Free it; a closed sampler is not used again. Idempotent."""
        if self._chain is not None:
            self._chain.close()

    def _adjust(self, row: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]] | None:
        """Apply bias and leading penalties in place. Returns the tokens they may concern, and the logits before."""
        tokens = self._bias_tokens
        if self._penalties is not None:
            seen = self._penalties.tokens()
            tokens = np.concatenate((tokens, seen)) if len(tokens) else seen
        if not len(tokens):
            return None
        before = row[tokens]
        row[self._bias_tokens] += self._bias_values
        if self._penalties is not None:
            self._penalties.apply(row)
        return tokens, before

    def _choose(self, row: NDArray[np.float32], allowed: TokenMask | None) -> int:
        """The next token, by an adjusted row. Raises InvalidRequest when none is left."""
        tokens, logits = self._candidates(row, allowed)
        chosen = best_index(logits, tokens) if len(logits) else None
        if chosen is None or (logits[chosen] == -math.inf and (allowed is not None or self._plan.bias)):
            which = "logit_bias forbids every token" if allowed is None else _NONE_ALLOWED
            raise InvalidRequest(which, "logit_bias")
        if self._chain is not None:
            return self._chain.apply(self._factory.scratch_candidates().fill(logits, tokens))
        if self._softmax is not None:
            chosen = self._softmax.choose(logits)
        return chosen if tokens is None else int(tokens[chosen])

    def _candidates(
        self, row: NDArray[np.float32], allowed: TokenMask | None
    ) -> tuple[NDArray[np.intp] | None, NDArray[np.float32]]:
        """Tokens of which the chain chooses as it would of all that are allowed, None: all tokens; their logits."""
        tokens, logits = None, row
        if allowed is not None:
            wanted = 1 if self._plan.choice is Choice.BEST else self._top_k
            if wanted and not allowed.has_few() and not np.isnan(row[0]):
                found = top_superset(row, min(wanted + _SPARE, len(row)))
                found = None if found is None else found[allowed.among(found)]
                if found is not None and len(found) >= wanted:
                    return found, row[found]
            tokens = allowed.ids()
            logits = row[tokens]
        found = self._shortlist(logits)
        if found is None:
            return tokens, logits
        return found if tokens is None else tokens[found], logits[found]

    def _shortlist(self, logits: NDArray[np.float32]) -> NDArray[np.intp] | None:
        """Indices of the candidates that suffice, by how the chain begins; None: all."""
        if self._chain is None or not len(logits):
            return None
        params, stages = self._plan.params, self._plan.stages
        if self._plan.nucleus_first:
            return nucleus(logits, params.top_p, params.min_keep)
        if self._top_k:
            return top_superset(logits, min(self._top_k, len(logits)))
        if stages[:1] == ("min_p",):
            found = near_top(logits, -math.log(params.min_p))
            return found if len(found) >= max(1, params.min_keep) else None
        return None

    def _describe(self, token: int, raw: NDArray[np.float32]) -> TokenInfo | None:
        params = self._plan.params
        if not (params.logprobs or params.n_probs):
            return None
        if not params.post_sampling_probs:
            return self._of_raw(token, raw)
        if self._chain is None or self._plan.greedy:
            alone = np.array([token][: params.n_probs], np.intp)
            return self._info(token, 0.0, alone, np.zeros(len(alone), np.float32))
        left: NDArray[Any] = self._factory.scratch_candidates().remaining()
        left = left[left["p"] > 0]
        ids, probabilities = left["id"], left["p"]
        best = top_indices(probabilities, params.n_probs)
        chosen = probabilities[ids == token]
        # The chosen one may have a probability that is rounded to zero, which has no finite logarithm.
        smallest = np.finfo(np.float32).tiny
        return self._info(token, math.log(max(chosen.sum(), smallest)), ids[best], np.log(probabilities[best]))

    def _of_raw(self, token: int, raw: NDArray[np.float32]) -> TokenInfo:
        total = log_sum_exp(raw)
        best = top_indices(raw, self._plan.params.n_probs)
        return self._info(token, float(raw[token]) - total, best, raw[best] - total)

    def _info(self, token: int, logprob: float, tokens: NDArray[Any], logprobs: NDArray[Any]) -> TokenInfo:
        piece = self._vocab.piece
        return TokenInfo(
            token=token,
            piece=piece(token, special=True),
            logprob=logprob,
            top=tuple(
                TokenProb(token=int(other), piece=piece(int(other), special=True), logprob=float(value))
                for other, value in zip(tokens, logprobs, strict=True)
            ),
        )
