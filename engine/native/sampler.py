"""Draws tokens: an argmax where that is the answer, else a native chain over as few candidates as are needed."""

import math
import threading
from collections.abc import Buffer, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.native.candidates import Candidates, log_sum_exp, top_indices, top_superset
from engine.native.chain import Chain, ChainFactory
from engine.native.context import Context
from engine.native.penalties import PenaltyWindow
from engine.native.sampling_plan import SamplingPlan, plan_sampling
from engine.native.token_mask import TokenMask
from engine.native.vocab import LlamaVocab
from engine.text.requests import SamplingParams, TokenInfo, TokenProb


class _Scratch(threading.local):
    """Memory that a draw needs and that no draw leaves anything in: one set a thread, made on first use."""

    row: NDArray[np.float32] | None = None
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
        chain = self._chains.create(plan) if plan.needs_chain else None
        return LlamaSampler(self, plan, penalties, chain)

    def close(self) -> None:
        """Free what is kept for reuse; samplers are closed by their owners. Idempotent."""
        self._chains.close()

    def scratch_row(self) -> NDArray[np.float32]:
        """float32[n_vocab] of the calling thread; its contents are undefined."""
        if self._scratch.row is None:
            self._scratch.row = np.empty(self.vocab.n_vocab, np.float32)
        return self._scratch.row

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
        self._bias_tokens = np.fromiter(plan.bias.keys(), np.intp, len(plan.bias))
        self._bias_values = np.fromiter(plan.bias.values(), np.float32, len(plan.bias))
        # The best token is the best one still when only others are forbidden: no copy of the row is needed then.
        self._only_forbids = chain is None and penalties is None and bool(np.all(self._bias_values == -np.inf))

    def accept(self, tokens: Sequence[int]) -> None:
        """Count tokens into the history that penalties look at. Raises ValueError outside the vocabulary."""
        if tokens and (min(tokens) < 0 or max(tokens) >= self._vocab.n_vocab):
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
        token = int(raw.argmax()) if self._only_forbids else None
        if token is None or token in self._plan.bias or (allowed is not None and not allowed.allows(token)):
            row = self._adjusted(raw)
            token = self._choose(row) if allowed is None else self._choose_allowed(row, allowed)
        info = self._describe(token, raw)
        self.accept((token,))
        return token, info

    def close(self) -> None:
        """Free it; a closed sampler is not used again. Idempotent."""
        if self._chain is not None:
            self._chain.close()

    def _choose(self, row: NDArray[np.float32]) -> int:
        if self._chain is None:
            return int(row.argmax())
        return self._chain.apply(self._factory.scratch_candidates().fill(row, self._preselected(row)))

    def _choose_allowed(self, row: NDArray[np.float32], allowed: TokenMask) -> int:
        """Like ``_choose`` where the other tokens do not exist."""
        if allowed.has_few():
            ids: NDArray[Any] | None = allowed.ids()
            values = row[ids]
        else:
            ids, values = None, self._factory.scratch_row()
            allowed.apply(row, out=values)
            row = values
        if not len(values) or values.max() == -math.inf:
            raise InvalidRequest("the request forbids every token that its grammar allows", "logit_bias")
        if self._chain is None:
            best = int(values.argmax())
            return best if ids is None else int(ids[best])
        if ids is None:
            ids = self._preselected(row)
            ids = allowed.ids() if ids is None else ids[row[ids] > -math.inf]
        return self._chain.apply(self._factory.scratch_candidates().fill(row, ids))

    def _adjusted(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """``raw`` itself, or a copy with bias and leading penalties applied."""
        if not len(self._bias_tokens) and self._penalties is None:
            return raw
        row = self._factory.scratch_row()
        np.copyto(row, raw)
        if len(self._bias_tokens):
            row[self._bias_tokens] += self._bias_values
            if row.max() == -math.inf:
                raise InvalidRequest("logit_bias forbids every token", "logit_bias")
        if self._penalties is not None:
            self._penalties.apply(row)
        return row

    def _preselected(self, row: NDArray[np.float32]) -> NDArray[Any] | None:
        """Candidates that suffice when the chain begins with top_k; None: all."""
        if self._plan.stages[:1] != ("top_k",):
            return None
        return top_superset(row, min(self._plan.params.top_k, len(row)))

    def _describe(self, token: int, raw: NDArray[np.float32]) -> TokenInfo | None:
        params = self._plan.params
        if not (params.logprobs or params.n_probs):
            return None
        if not params.post_sampling_probs:
            total = log_sum_exp(raw)
            best = top_indices(raw, params.n_probs)
            return self._info(token, float(raw[token]) - total, best, raw[best] - total)
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
