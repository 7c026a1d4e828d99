"""From the logits of a decode to the next tokens of a generation: drawn, forced by its grammar, and drafted ones."""

from collections.abc import Callable, Sequence

import attrs

from engine.errors import EngineError
from engine.text.backend import Vocab
from engine.text.events import FinishReason
from engine.text.generation import Generation
from engine.text.masks import Masks
from engine.text.requests import TokenInfo
from engine.text.scheduler import Scheduler
from engine.text.tokens import common_prefix, row


@attrs.frozen
class Next:
    """The tokens that a generation got; ``reason`` or ``error``: why it is over, if it is."""

    tokens: list[int]
    reason: FinishReason | None = None
    error: EngineError | None = None


class NextTokens:
    """Appends tokens to generations and their sequences. Used by the engine thread."""

    def __init__(self, vocab: Vocab, scheduler: Scheduler, masks: Masks, clock: Callable[[], float]) -> None:
        self._vocab = vocab
        self._scheduler = scheduler
        self._masks = masks
        self._clock = clock

    def find(self, generation: Generation, index: int, draft: Sequence[int] = ()) -> Next:
        """The tokens that follow from the logits at batch index ``index``, and from those behind each drafted token.

        Every token is drawn as it would be without a draft, and the first one that is not the drafted one ends it: the
        method and its sources are in ``engine.text.speculation.speculation``. Afterwards the sequence and the KV cache
        hold none of the drafted tokens but those that were drawn.
        """
        sequence = generation.sequence
        start, matched = len(sequence.tokens), 0
        reason: FinishReason | None = None
        error: EngineError | None = None
        try:
            while reason is None:
                before = len(sequence.tokens)
                reason = self._one(generation, index + matched)
                if not draft:
                    break
                new = sequence.tokens[before:]
                same = common_prefix(row(draft[matched:]), new)
                matched += same
                if same < len(new):
                    break
        except EngineError as refused:
            error = refused
        if draft:
            generation.count_draft(len(draft), matched)
            # Of a text that has ended the last token is never in the cache, as without drafts.
            self._scheduler.checked(sequence, max(0, min(matched, sequence.n_pending - 1)), len(draft))
        return Next(sequence.tokens[start:].tolist(), reason, error)

    def _one(self, generation: Generation, index: int) -> FinishReason | None:
        """Draw a token, and take those that are forced to follow it. Returns why the generation is over, if it is."""
        sequence, steering = generation.sequence, generation.steering
        if steering is not None:
            self._masks.wait(sequence)
            if steering.complete:  # a grammar of the empty text
                return FinishReason.EOS
        token, info = self._draw(generation, index)
        now = self._clock()
        reason = self._take(generation, token, info, now)
        if steering is not None:
            while reason is None and (forced := steering.forced()) is not None:
                generation.sampler.accept((forced,))
                reason = self._take(generation, forced, None, now)
        return reason

    def _draw(self, generation: Generation, index: int) -> tuple[int, TokenInfo | None]:
        sampler, steering = generation.sampler, generation.steering
        if steering is None:
            return sampler.sample(index)
        forced = steering.forced()
        if forced is None:
            return sampler.sample(index, steering.mask())
        sampler.accept((forced,))
        return forced, None

    def _take(self, generation: Generation, token: int, info: TokenInfo | None, now: float) -> FinishReason | None:
        """The sequence has got a token. Returns why it is over, if it is."""
        sequence, vocab = generation.sequence, self._vocab
        request, is_end = sequence.request, vocab.is_eog(token)
        must_end = self._scheduler.append(sequence, token, now)
        piece = vocab.piece(token, special=request.special or token in request.visible)
        reason = generation.take(token, info, piece, is_end, now)
        if reason is not None:
            return reason
        if generation.steering is not None:
            generation.steering.accept(token, piece)
            if generation.steering.complete:
                return FinishReason.EOS
        if must_end:
            sequence.truncated = True
            return FinishReason.LIMIT
        return None
