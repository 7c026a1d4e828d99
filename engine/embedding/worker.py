"""Runs embedding requests on the engine thread: one batch a call, between the generation's steps.

Where the backend has lanes a call starts a batch on each idle one instead, or takes what they have computed: the thread
does not wait for them. What is not worth sharing is computed by all threads, on the calling one, once no lane computes.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from time import monotonic

import attrs

from engine.embedding.backend import EmbeddingBackend
from engine.embedding.batcher import Batcher, Job, Planned
from engine.embedding.lanes import Lanes, Outcome
from engine.embedding.nothing import NoEmbeddings
from engine.embedding.pooling import join
from engine.embedding.requests import Embedded, EmbeddingRequest, Vector
from engine.embedding.shares import share_out, worth_sharing
from engine.errors import EngineError, InvalidRequest, NativeError
from engine.text.commands import CancelEmbed, Embed, Mailbox
from engine.text.events import Failed
from engine.text.info import EngineStats
from engine.text.step_cost import StepCost

LEAST = 16  # tokens of a batch while streams run
# Clients that have just been answered ask again at once. Waiting for them at most this share of the last batch's time
# fills the next one: 8 texts in one batch take half the time of 8 batches. Beside lanes that compute it costs little.
PATIENCE = 0.5
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

    Without a backend it refuses every text. ``wake`` is called, on another thread, when a lane has something to take.
    """

    def __init__(
        self,
        backend: EmbeddingBackend | None = None,
        clock: Callable[[], float] = monotonic,
        executor: Executor | None = None,
    ) -> None:
        """``executor``: see ``Lanes``."""
        self.info = None if backend is None else backend.info
        self.computing: frozenset[str] = frozenset()  # the requests that have texts in a batch being computed
        self.wake: Callable[[], None] = lambda: None
        self._backend = backend or NoEmbeddings()
        self._clock = clock
        self._batcher = Batcher(self._backend.info)
        self._lanes = Lanes(self._backend.lanes, clock, lambda: self.wake(), executor)
        self._draining = False  # until no lane computes none gets a batch
        self._cost = StepCost()
        self._lane_cost = StepCost()
        self._work: dict[str, _Work] = {}
        self._answered = 0  # requests that the last batch completed
        self._patient_until = 0.0

    @property
    def n_requests(self) -> int:
        """Requests that have no terminal event yet."""
        return len(self._work)

    @property
    def pending(self) -> bool:
        """Whether there is anything to compute, and something to compute it, or anything to take."""
        if self._lanes.done:
            return True
        return bool(self._batcher) and (not self._lanes.busy or (not self._draining and bool(self._lanes.idle)))

    def patience(self) -> float:
        """Seconds for which waiting for more texts may pay: those who were just answered tend to ask again."""
        if self._lanes.done or len(self._work) - len(self.computing) >= self._answered:
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
        ``MOST_SECONDS``), start one on each idle lane, or take what lanes have computed; the terminal events that
        follow.

        ``is_wanted`` is asked when ``computing`` is set: False gives the batch up before it began.
        """
        if self._lanes.done:
            return [answer for outcome in self._lanes.take() for answer in self._ended(outcome, stats)]
        planned = self._batcher.plan(self._limit(budget))
        shares = self._shares(planned) if self._lanes else None
        if shares is not None:
            self._start(shares, is_wanted)
            return []
        if self._lanes.busy:
            self._batcher.undone(planned)
            self._draining = True
            return []
        return self._compute(planned, is_wanted, stats)

    def _limit(self, budget: int | None) -> int | None:
        """Tokens of the next batch, or of those of all idle lanes."""
        if budget is not None or not self._lanes:
            cost = self._cost.prefill_token
            return self.budget(MOST_SECONDS) if budget is None and cost else budget
        n_idle, n_batch = len(self._lanes.idle), self._backend.info.n_batch // len(self._lanes)
        if self._lane_cost.prefill_token:
            n_batch = self._lane_cost.prefill_limit(MOST_SECONDS, LEAST, n_batch)
        return n_idle * n_batch

    def _shares(self, planned: Sequence[Planned]) -> list[tuple[int, list[Planned]]] | None:
        """What each idle lane gets of a batch; None where all threads are to compute it together."""
        idle = self._lanes.idle
        sizes = [len(entry.piece.tokens) for entry in planned]
        if not worth_sharing(sizes, self._lanes.longest, len(idle), len(self._lanes)):
            return None
        shares, left = share_out(sizes, self._lanes.rooms(idle))
        self._batcher.undone([planned[place] for place in left])
        return [(lane, [planned[place] for place in share]) for lane, share in zip(idle, shares, strict=True) if share]

    def _start(self, shares: Sequence[tuple[int, list[Planned]]], is_wanted: Callable[[], bool]) -> None:
        """Let idle lanes compute these."""
        started = [entry for _, share in shares for entry in share]
        self.computing |= {entry.job.request.id for entry in started}
        if is_wanted():
            for lane, share in shares:
                self._lanes.start(lane, share)
        else:
            self._batcher.undone(started)
        self.computing = frozenset(entry.job.request.id for entry in self._lanes.planned)

    def _ended(self, outcome: Outcome, stats: EngineStats) -> list[Answer]:
        """The answers that a lane's batch brings."""
        self.computing = frozenset(entry.job.request.id for entry in self._lanes.planned)
        self._draining = self._draining and self._lanes.busy
        planned = [entry for entry in outcome.planned if self._is_running(entry.job)]
        match outcome.found:
            case None:
                self._batcher.undone(planned)
                return []
            case NativeError() as error:
                return self._failed(planned, error)
            case BaseException() as error:
                raise error
            case vectors:
                self._lane_cost.measured(0, _n_tokens(outcome.planned), outcome.seconds)
                return self._finished(outcome.planned, vectors, outcome.seconds, stats)

    def _compute(self, planned: Sequence[Planned], is_wanted: Callable[[], bool], stats: EngineStats) -> list[Answer]:
        """One batch on this thread."""
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
        seconds = self._clock() - began
        self._batcher.computed(planned)
        for entry in planned:
            if entry.complete:
                self._backend.forget(entry.piece.seq, 0)
        self._cost.measured(0, _n_tokens(planned), seconds)
        return self._finished(planned, found, seconds, stats)

    def _finished(
        self, planned: Sequence[Planned], found: Sequence[Vector], seconds: float, stats: EngineStats
    ) -> list[Answer]:
        """The answers of those that are complete now, and the figures."""
        answers = self._collect(planned, found)
        self._answered, self._patient_until = len(answers), self._clock() + PATIENCE * seconds
        stats.decode_total += 1
        stats.busy_slots_total += len(planned)
        stats.prompt_tokens_total += _n_tokens(planned)
        stats.prompt_seconds_total += seconds
        return answers

    def _is_running(self, job: Job) -> bool:
        """Whether the request is still wanted: it may have been cancelled while a lane computed it."""
        work = self._work.get(job.request.id)
        return work is not None and work.job is job

    def _collect(self, planned: Iterable[Planned], found: Iterable[Vector]) -> list[Answer]:
        answers: list[Answer] = []
        for entry, vector in zip(planned, found, strict=True):
            if not self._is_running(entry.job):
                continue
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
        """Make running batches stop soon. Any thread; holds until ``clear_abort``, and until no lane computes."""
        self._backend.abort()
        self._draining = True

    def clear_abort(self) -> None:
        """Let batches run again."""
        if not self._lanes.busy:
            self._draining = False
            self._backend.clear_abort()

    def close(self) -> None:
        """Stop the lanes and free what is native. Idempotent."""
        self._backend.abort()
        self._lanes.close()
        self._backend.close()


def _n_tokens(planned: Iterable[Planned]) -> int:
    return sum(len(entry.piece.tokens) for entry in planned)
