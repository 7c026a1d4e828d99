"""Runs embedding requests on the engine thread: one batch a call, between the generation's steps."""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic

import attrs

from engine.embedding.backend import EmbeddingBackend
from engine.embedding.batcher import Batcher, Job, Planned
from engine.embedding.nothing import NoEmbeddings
from engine.embedding.pooling import join
from engine.embedding.requests import Embedded, EmbeddingRequest, Vector
from engine.errors import EngineError, InvalidRequest, NativeError
from engine.text.commands import CancelEmbed, Embed, Mailbox
from engine.text.events import Failed
from engine.text.info import EngineStats
from engine.text.step_cost import StepCost

LEAST = 16  # tokens of a batch while streams run
# Clients that have just been answered ask again at once. Waiting for them at most this share of the last batch's time
# fills the next one: 8 texts in one batch take half the time of 8 batches.
PATIENCE = 0.25
# Seconds that a batch may take as far as is known: whoever comes meanwhile waits for it.
MOST_SECONDS = 1.0

type Answer = tuple[Mailbox, Embedded | Failed]


@attrs.define(eq=False)
class _Work:
    """A request and what is known of its texts."""

    job: Job
    mailbox: Mailbox
    vectors: list[Vector | None]
    left: int  # texts without a vector
    parts: list[tuple[int, Vector]] = attrs.field(factory=list)  # of the text in pieces: (tokens, vector)


class EmbeddingWorker:
    """One thread uses it; ``info``, ``computing`` and ``abort`` are for others too.

    Without a backend it refuses every text.
    """

    def __init__(self, backend: EmbeddingBackend | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.info = None if backend is None else backend.info
        self.computing: frozenset[str] = frozenset()  # the requests that have texts in the batch being computed
        self._backend = backend or NoEmbeddings()
        self._clock = clock
        self._batcher = Batcher(self._backend.info)
        self._cost = StepCost()
        self._work: dict[str, _Work] = {}
        self._answered = 0  # requests that the last batch completed
        self._patient_until = 0.0

    @property
    def n_requests(self) -> int:
        """Requests that have no terminal event yet."""
        return len(self._work)

    @property
    def pending(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self._batcher)

    def patience(self) -> float:
        """Seconds for which waiting for more texts may pay: those who were just answered tend to ask again."""
        if len(self._work) >= self._answered:
            return 0.0
        return max(0.0, self._patient_until - self._clock())

    def obey(self, command: Embed | CancelEmbed) -> list[Answer]:
        """Queue a request, or drop what of it is not computed. Answers at once what can never be computed."""
        match command:
            case Embed(request, mailbox):
                try:
                    self._submit(request, mailbox)
                except EngineError as error:
                    return [(mailbox, Failed(error=error))]
            case CancelEmbed(request_id):
                work = self._work.pop(request_id, None)
                if work is not None:
                    self._remove(work.job)
            case _:
                raise AssertionError(f"not a command: {command!r}")
        return []

    def _submit(self, request: EmbeddingRequest, mailbox: Mailbox) -> None:
        self._backend.info.validate(request)
        if request.id in self._work:
            raise InvalidRequest(f"a request with the id {request.id} is running")
        n_texts = len(request.texts)
        self._work[request.id] = _Work(self._batcher.add(request), mailbox, [None] * n_texts, n_texts)

    def fail_all(self, error: EngineError) -> list[Answer]:
        """End every request with ``error``; touches nothing native."""
        answers: list[Answer] = [(work.mailbox, Failed(error=error)) for work in self._work.values()]
        self._work.clear()
        return answers

    def budget(self, target: float) -> int:
        """Tokens of a batch that takes about ``target`` seconds."""
        return self._cost.prefill_limit(target, LEAST, self._backend.info.n_batch)

    def step(self, budget: int | None, is_wanted: Callable[[], bool], stats: EngineStats) -> list[Answer]:
        """Compute one batch of about ``budget`` tokens (None: as many as fit, and are computed in
        ``MOST_SECONDS``); the terminal events that follow.

        ``is_wanted`` is asked when ``computing`` is set: False gives the batch up before it began.
        """
        if budget is None and self._cost.prefill_token:
            budget = self.budget(MOST_SECONDS)
        planned = self._batcher.plan(budget)
        self.computing = frozenset(entry.job.request.id for entry in planned)
        began = self._clock()
        try:
            found = self._backend.compute([entry.piece for entry in planned]) if is_wanted() else None
        except NativeError as error:
            return self._failed(planned, error)
        finally:
            self.computing = frozenset()
        if found is None:
            self._undo(planned)
            return []
        self._batcher.computed(planned)
        for entry in planned:
            if entry.complete:
                self._backend.forget(entry.piece.seq, 0)
        answers = self._collect(planned, found)
        now = self._clock()
        self._answered, self._patient_until = len(answers), now + PATIENCE * (now - began)
        self._count(planned, now - began, stats)
        return answers

    def _count(self, planned: Sequence[Planned], seconds: float, stats: EngineStats) -> None:
        n_tokens = sum(len(entry.piece.tokens) for entry in planned)
        self._cost.measured(0, n_tokens, seconds)
        stats.decode_total += 1
        stats.busy_slots_total += len(planned)
        stats.prompt_tokens_total += n_tokens
        stats.prompt_seconds_total += seconds

    def _collect(self, planned: Iterable[Planned], found: Iterable[Vector]) -> list[Answer]:
        answers: list[Answer] = []
        for entry, vector in zip(planned, found, strict=True):
            work = self._work[entry.job.request.id]
            in_pieces = entry.piece.start > 0 or not entry.complete
            if in_pieces:
                work.parts.append((len(entry.piece.tokens), vector))
            if not entry.complete:
                continue
            work.vectors[entry.text] = self._joined(work) if in_pieces else vector
            work.left -= 1
            if work.left == 0:
                answers.append((work.mailbox, Embedded(vectors=tuple(v for v in work.vectors if v is not None))))
                del self._work[entry.job.request.id]
        return answers

    def _joined(self, work: _Work) -> Vector:
        sizes, vectors = zip(*work.parts, strict=True)
        work.parts.clear()
        return join(self._backend.info.pooling, sizes, vectors)

    def _undo(self, planned: Sequence[Planned]) -> None:
        for entry in planned:
            self._backend.forget(entry.piece.seq, entry.piece.start)
        self._batcher.undone(planned)

    def _failed(self, planned: Sequence[Planned], error: NativeError) -> list[Answer]:
        """Every request with a text in the batch fails: what the library has computed of it is unknown."""
        answers: list[Answer] = []
        self._undo(planned)
        for entry in planned:
            work = self._work.pop(entry.job.request.id, None)
            if work is not None:
                answers.append((work.mailbox, Failed(error=error)))
                self._remove(work.job)
        return answers

    def _remove(self, job: Job) -> None:
        held = self._batcher.remove(job)
        if held is not None:
            self._backend.forget(held, 0)

    def abort(self) -> None:
        """Make a running batch stop soon. Any thread; holds until ``clear_abort``."""
        self._backend.abort()

    def clear_abort(self) -> None:
        """Let batches run again."""
        self._backend.clear_abort()

    def close(self) -> None:
        """Free what is native. Idempotent."""
        self._backend.close()
