"""The state of one running or waiting request, as the scheduler sees it."""

import enum

import attrs

from engine.text.adapters import AdapterSet
from engine.text.backend import Run
from engine.text.media import MediaSpan
from engine.text.requests import GenerationRequest
from engine.text.tokens import Tokens, as_row


class Status(enum.Enum):
    """WAITING → RUNNING → ENDED; a preempted sequence goes back to WAITING; a waiting one may end at once."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


_LEGAL = (  # a tuple: to look into a set takes two hashes, which an enum has computed in Python
    (Status.WAITING, Status.RUNNING),
    (Status.RUNNING, Status.WAITING),
    (Status.RUNNING, Status.ENDED),
    (Status.WAITING, Status.ENDED),
)


@attrs.define(eq=False)
class Sequence:
    """``tokens`` is the prompt and what was generated; the first ``n_past`` of them are in the KV cache.

    Until it runs for the first time they are those of the request, which nobody changes: there may be many who wait.
    """

    request: GenerationRequest
    arrival: int  # order of submission
    submitted_at: float
    tokens: Tokens
    adapters: AdapterSet  # what it is computed with; only sequences with the same set may share a batch or cells
    status: Status = Status.WAITING
    slot: int | None = None
    seq: int | None = None  # id in the KV cache while running
    n_past: int = 0
    n_prefill: int = 0  # leading tokens that are prompt, or are computed again after a preemption
    n_generated: int = 0
    plain_to: int = 0  # tokens up to which the next one is just appended: no pace is kept, and the context not full
    n_cached: int = 0  # prompt tokens that came from the cache, or from host memory, when it was first admitted
    counts_cached: bool = False  # it runs for the first time
    recall_to: int = 0  # tokens up to here are to be brought back from host memory before it computes
    save_at: list[int] = attrs.field(factory=list)  # lengths, all ahead, of which its state is to be kept
    admission: int = 0  # order of admission while it runs
    admitted_at: float | None = None
    next_due: float = 0.0  # pacing: not in a batch before this time
    shifted: bool = False  # its cells no longer are what its tokens alone would give
    moved: bool = False  # its cells got other positions, which the library settles with the next decode
    truncated: bool = False  # some of its context was dropped
    run: Run | None = None  # of its next token, while it decodes: kept from step to step (see engine.text.roster)
    # Common prefix with a running sequence, by that sequence's arrival: both rows only grow at their ends.
    shared_prefix: dict[int, int] = attrs.field(factory=dict)
    awaited: "Sequence | None" = None  # while waiting: the running sequence whose prefix it was last found to wait for
    awaited_to: int = 0  # until that has computed more tokens than so many

    @classmethod
    def of(cls, request: GenerationRequest, arrival: int, now: float) -> "Sequence":
        tokens = as_row(request.prompt)
        return cls(request, arrival, now, tokens, request.adapters, n_prefill=len(tokens))

    def become(self, status: Status) -> None:
        if (self.status, status) not in _LEGAL:
            raise AssertionError(f"request {self.request.id}: {self.status} cannot become {status}")
        self.status = status

    def own_tokens(self) -> None:
        """It is about to run, and its tokens to grow: those of the request stay as they are."""
        if self.tokens is self.request.prompt:
            self.tokens = self.tokens[:]

    def cells(self, upto: int, first: int = 0) -> int:
        """Cells that its tokens from ``first`` up to ``upto`` take; more than tokens where media are among them."""
        if not self.request.media:
            return upto - first
        return upto - first + sum(span.extra for span in self.request.media if first <= span.start < upto)

    @property
    def n_prompt(self) -> int:
        """Length of its prompt as users count it: in cells."""
        return self.cells(len(self.request.prompt))

    @property
    def next_media(self) -> MediaSpan | None:
        """The medium that is to be computed next; None where it is text, or nothing."""
        return next((span for span in self.request.media if span.start == self.n_past), None)

    @property
    def next_text(self) -> int:
        """Pending tokens up to the next medium."""
        if not self.request.media:
            return len(self.tokens) - self.n_past
        start = next((span.start for span in self.request.media if span.start >= self.n_past), len(self.tokens))
        return start - self.n_past

    @property
    def is_paced(self) -> bool:
        """Whether its tokens have to wait for their time."""
        return self.request.tokens_per_second > 0

    @property
    def n_pending(self) -> int:
        """Tokens that are not in the KV cache yet. While decoding one, and those that were forced behind it."""
        return len(self.tokens) - self.n_past

    @property
    def is_prefilling(self) -> bool:
        return self.n_past < self.n_prefill

    @property
    def is_scoring(self) -> bool:
        """Whether the probabilities of its prompt's tokens are asked for: none of them may come from a cache."""
        return self.request.score_prompt and not self.n_generated

    @property
    def is_recalling(self) -> bool:
        """Whether tokens of it are still to be brought back from host memory: until then it computes nothing."""
        return self.recall_to > self.n_past

    @property
    def is_decoding(self) -> bool:
        """Whether the next token is all that it waits for: it generates, or the cache has all but one of its prompt."""
        return self.n_past >= self.n_prefill or len(self.tokens) - self.n_past == 1

    @property
    def n_remaining(self) -> int | None:
        """Tokens that it may still generate; None without a limit."""
        limit = self.request.max_tokens
        return None if limit is None else max(0, limit - self.n_generated)
