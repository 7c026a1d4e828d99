"""Which texts are in the next decode: pure bookkeeping, no clock, no library, no thread.

Requests take turns, a text each, so that one with a thousand texts delays one with a single text by one batch at most.
A text that does not fit what is left of a batch stays at the front and is the first of the next one. One text at a
time may be in pieces: its cells stay held until it is complete.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from engine.embedding.backend import Piece
from engine.embedding.requests import EmbeddingInfo, EmbeddingRequest

# How many jobs may be looked at in vain for one that fits what is left of a batch.
MOST_PASSED: Final = 64


@attrs.define(eq=False)
class Job:
    """A request on its way; ``waiting`` are its texts that are neither computed nor in a batch."""

    request: EmbeddingRequest
    waiting: deque[int] = attrs.field(
        init=False, default=attrs.Factory(lambda job: deque(range(len(job.request.texts))), takes_self=True)
    )
    started: int | None = None  # the text that is computed in pieces
    done: int = 0  # its tokens that are computed

    @property
    def exhausted(self) -> bool:
        return not self.waiting


@attrs.frozen
class Planned:
    """``piece`` belongs to text ``text`` of ``job``; ``complete``: it is the text's last one."""

    job: Job
    text: int
    piece: Piece
    complete: bool


@attrs.define
class _Room:
    tokens: int
    seqs: list[int]  # ids that are free, last one first


class Batcher:
    """Deterministic: the same calls give the same batches."""

    def __init__(self, info: EmbeddingInfo) -> None:
        self._info = info
        self._queue: deque[Job] = deque()  # jobs with texts to compute; whose turn it is comes first
        self._split: tuple[Job, int] | None = None  # the job whose text is in pieces, and the text's sequence

    def __bool__(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self._queue)

    def add(self, request: EmbeddingRequest) -> Job:
        """Queue a request."""
        job = Job(request)
        self._queue.append(job)
        return job

    def remove(self, job: Job) -> int | None:
        """Forget the texts that are not computed; the sequence whose cells are to be given up, if one holds some."""
        if job in self._queue:
            self._queue.remove(job)
        if self._split is not None and self._split[0] is job:
            seq, self._split = self._split[1], None
            return seq
        return None

    def plan(self, budget: int | None = None) -> list[Planned]:
        """The next batch, of about ``budget`` tokens (None: as many as fit); empty only when nothing waits.

        The plan is binding: follow it with ``computed`` or ``undone``, before the next one where a text is in pieces.
        """
        most = self._info.n_batch if budget is None else max(1, min(budget, self._info.n_batch))
        held = None if self._split is None else self._split[1]
        room = _Room(most, [seq for seq in reversed(range(self._info.n_seqs)) if seq != held])
        planned = self._continue(room)
        passed: list[Job] = []  # they keep their places at the front
        while self._queue and room.tokens > 0 and room.seqs and len(passed) < MOST_PASSED:
            job = self._queue.popleft()
            found = None if job.started is not None else self._take(job, room, alone=not planned)
            if found is None or job.started is not None:
                passed.append(job)
            elif not job.exhausted:
                self._queue.append(job)
            if found is not None:
                planned.append(found)
        self._queue.extendleft(reversed(passed))
        return planned

    def _continue(self, room: _Room) -> list[Planned]:
        """The next piece of the text in pieces; half of the batch where others wait too."""
        if self._split is None:
            return []
        job, seq = self._split
        most = max(1, room.tokens // 2) if len(self._queue) > 1 else room.tokens
        return [self._piece(job, seq, most, room)]

    def _take(self, job: Job, room: _Room, *, alone: bool) -> Planned | None:
        """The job's next text, if it fits; the first text of a batch always does, in a piece if it may be split."""
        text = job.waiting[0]
        tokens = job.request.texts[text]
        size = len(tokens)
        if size > room.tokens and not alone:
            return None
        if size <= room.tokens or not self._info.splittable:
            room.tokens -= size
            job.waiting.popleft()
            return Planned(job, text, Piece(room.seqs.pop(), 0, tokens), complete=True)
        job.started, job.done = text, 0
        self._split = job, room.seqs.pop()
        return self._piece(job, self._split[1], room.tokens, room)

    def _piece(self, job: Job, seq: int, most: int, room: _Room) -> Planned:
        assert job.started is not None, "only a text in pieces has pieces"
        text = job.request.texts[job.started]
        tokens = text[job.done : job.done + most]
        planned = Planned(job, job.started, Piece(seq, job.done, tokens), job.done + len(tokens) == len(text))
        room.tokens -= len(tokens)
        return planned

    def computed(self, planned: Sequence[Planned]) -> None:
        """The batch is done."""
        for entry in planned:
            job = entry.job
            if job.started != entry.text:
                continue
            job.done += len(entry.piece.tokens)
            if entry.complete:
                self._complete(job)

    def _complete(self, job: Job) -> None:
        job.started, self._split = None, None
        job.waiting.popleft()
        if job in self._queue:  # it keeps its place at the front while its text is in pieces
            self._queue.remove(job)
            if not job.exhausted:
                self._queue.append(job)

    def undone(self, planned: Sequence[Planned]) -> None:
        """The batch, or a part of it, came to nothing: its texts are next again, in the same order."""
        for entry in reversed(planned):
            job = entry.job
            if job.started == entry.text:
                continue  # its pieces before this one still count
            job.waiting.appendleft(entry.text)
            if job in self._queue:
                self._queue.remove(job)
            self._queue.appendleft(job)
