"""What one generation may say next: its grammar, once a trigger has woken it, and the limit to its reasoning.

Pure: the grammar's state is behind the ``Matcher`` protocol. A grammar that fails on the way is given up with a log
line; the generation goes on without it.
"""

import enum
import logging
from collections import deque
from collections.abc import Buffer, Sequence

from engine.text.requests import GenerationRequest, Matcher, Thinking, Trigger
from engine.text.thinking import ThinkingBudget
from engine.text.triggers import Found, TriggerSearch

log = logging.getLogger("engine.text")


class Phase(enum.Enum):
    """Of the grammar: WAITING (for a trigger) → ACTIVE → DONE; DONE at once without a grammar."""

    WAITING = "waiting"
    ACTIVE = "active"
    DONE = "done"


class Steering:
    """Told of each token by ``accept``; answers with ``forced`` and ``mask``.

    Used by one thread at a time; ``compute_mask`` may be another's between two calls of the others.
    """

    def __init__(
        self,
        *,
        n_vocab: int,
        matcher: Matcher | None = None,
        triggers: Sequence[Trigger] = (),
        thinking: Thinking | None = None,
        fast_forward: bool = True,
        forbidden: frozenset[int] = frozenset(),
    ) -> None:
        """``fast_forward`` False: forced tokens are to be sampled too, with a mask that allows nothing else.

        ``forbidden``: tokens that no grammar forces.
        """
        self._n_vocab = n_vocab
        self._matcher = matcher
        self._search = TriggerSearch(triggers) if matcher is not None and triggers else None
        self._thinking = ThinkingBudget(thinking) if thinking is not None and thinking.end else None
        self._fast_forward = fast_forward
        self._forbidden = forbidden
        self._queue: deque[int] = deque()  # tokens that come next
        self._looked = False  # for what has to come next, since the last token
        self._has_mask = False  # the matcher's mask is that of the current state
        waits = bool(triggers) and all(trigger.text for trigger in triggers)  # an empty text is everywhere
        self.phase = Phase.DONE if matcher is None else Phase.WAITING if waits else Phase.ACTIVE

    @property
    def complete(self) -> bool:
        """Whether the grammar's text is complete and only an end token may follow."""
        return self.phase is Phase.ACTIVE and self._matcher is not None and not self._queue and self._matcher.complete

    @property
    def needs_mask(self) -> bool:
        """Whether ``compute_mask`` has something to do before the next token is sampled."""
        if self.phase is not Phase.ACTIVE or self._has_mask:
            return False
        self._refill()
        return not self._queue

    def compute_mask(self) -> None:
        """Have the mask ready for the next ``mask``; takes up to milliseconds."""
        if self._matcher is not None:
            self._matcher.compute_mask()
            self._has_mask = True

    def mask(self) -> Buffer | None:
        """The tokens that the next one is sampled from, None: all. See ``Matcher.mask``."""
        self._refill()
        if self._queue:
            return self._only(self._queue[0])
        if self.phase is not Phase.ACTIVE or self._matcher is None:
            return None
        if not self._has_mask:
            self.compute_mask()
        if self._matcher.error:
            self._fail()
            return None
        return self._matcher.mask

    def forced(self) -> int | None:
        """The token that comes next without being sampled, None if the next one is to be sampled."""
        if not self._fast_forward:
            return None
        self._refill()
        return self._queue[0] if self._queue else None

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many of the tokens may come next, in this order, as far as the grammar knows."""
        if self.phase is not Phase.ACTIVE or self._matcher is None or not tokens:
            return len(tokens)
        return self._matcher.validate(tokens)

    def accept(self, token: int, piece: bytes) -> None:
        """The generation has got a token, forced or sampled; ``piece`` are its visible bytes."""
        if self._queue and self._queue.popleft() != token:
            self._queue.clear()
        self._looked = self._has_mask = False
        if self._thinking is not None:
            self._thinking.feed(piece)
        if self.phase is Phase.ACTIVE:
            self._consume((token,))
        elif self.phase is Phase.WAITING and self._search is not None:
            found = self._search.feed(token, piece)
            if found is not None:
                self._wake(found)

    def _refill(self) -> None:
        """Fill the queue with what has to come next, if anything has to."""
        if self._queue or self._looked:
            return
        self._looked = True
        if self._thinking is not None and self._thinking.due:
            end = self._thinking.end
            # A grammar that holds already has the last word: if it is not yet the time, the next token may be it.
            if self.allowed(end) == len(end):
                self._thinking.close()
                self._queue.extend(end)
                return
        if self.phase is Phase.ACTIVE and self._fast_forward and self._matcher is not None:
            for token in self._matcher.forced():
                if token in self._forbidden:
                    break
                self._queue.append(token)

    def _wake(self, found: Found) -> None:
        """A trigger was found: catch up with the text that is the grammar's already."""
        self.phase, self._search = Phase.ACTIVE, None
        if self._thinking is not None:
            self._thinking.close()  # who begins a call or an answer has thought enough
        if not found.tokens:
            pass
        elif not found.skip and self.allowed(found.tokens) == len(found.tokens):
            self._consume(found.tokens)
        else:
            self._catch_up(found)
        kept = self.allowed(tuple(self._queue))
        while len(self._queue) > kept:
            self._queue.pop()

    def _catch_up(self, found: Found) -> None:
        """The grammar begins inside a token: it gets tokens for the bytes from there on."""
        assert self._matcher is not None, "only a grammar is woken"
        first, *others = found.pieces
        rest = (*self._matcher.tokenize(first[found.skip :]), *found.tokens[1:])
        whole = self._matcher.tokenize(b"".join((first[found.skip :], *others)))
        for tokens in (rest, whole):
            if self.allowed(tokens) == len(tokens):
                self._consume(tokens)
                return
        log.debug("a grammar is given up: the text that woke it does not begin it")
        self.phase = Phase.DONE

    def _consume(self, tokens: Sequence[int]) -> None:
        assert self._matcher is not None, "only a grammar takes tokens"
        if not self._matcher.consume(tokens):
            self._fail()

    def _fail(self) -> None:
        assert self._matcher is not None, "only a grammar fails"
        log.warning("a grammar is given up, its text goes on without it: %s", self._matcher.error)
        self.phase = Phase.DONE

    def _only(self, token: int) -> Buffer:
        bits = bytearray((self._n_vocab + 31) // 32 * 4)
        bits[token >> 3] = 1 << (token & 7)
        return bits


def steering_for(request: GenerationRequest, n_vocab: int) -> Steering | None:
    """The steering that a request asks for, None if it goes its own way."""
    if request.grammar is None and request.thinking is None:
        return None
    sampling = request.sampling
    return Steering(
        n_vocab=n_vocab,
        matcher=None if request.grammar is None else request.grammar.matcher(),
        triggers=() if request.grammar is None else request.grammar.spec.triggers,
        thinking=request.thinking,
        # Who wants each token's probabilities wants it sampled.
        fast_forward=not (sampling.logprobs or sampling.n_probs),
        forbidden=frozenset(token for token, bias in sampling.logit_bias if bias == float("-inf")),
    )
