"""Batches on the lanes of an embedder: each is computed on a thread of the pool, and its end is told to who waits.

Nothing waits here for all lanes to be done: clients whose texts are computed ask again while the others compute.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import attrs

from engine.embedding.backend import Lane, Piece
from engine.embedding.batcher import Planned
from engine.embedding.requests import Vector
from engine.native.threads import unbind


@attrs.frozen(eq=False)
class Outcome:
    """What became of a batch: its vectors, None where it was aborted, or an error."""

    planned: Sequence[Planned]
    found: list[Vector] | BaseException | None
    seconds: float


class Lanes:
    """One thread starts batches and takes what they came to; ``on_done`` is called on the lanes' own threads.

    ``executor``: whose threads; it is shut down with the lanes. One thread a lane if left out.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        clock: Callable[[], float],
        on_done: Callable[[], None],
        executor: Executor | None = None,
    ) -> None:
        self._lanes = lanes
        self._clock = clock
        self._on_done = on_done
        self._running: dict[int, Sequence[Planned]] = {}
        self._done: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        if executor is None and lanes:
            executor = ThreadPoolExecutor(len(lanes), "llamabox-embed", initializer=unbind)
        self._executor = executor

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def idle(self) -> list[int]:
        """Lanes without a batch."""
        return [index for index in range(len(self._lanes)) if index not in self._running]

    @property
    def busy(self) -> bool:
        """Whether a batch is computed, or computed and not taken."""
        return bool(self._running)

    @property
    def done(self) -> bool:
        """Whether there is something to take."""
        return not self._done.empty()

    @property
    def planned(self) -> list[Planned]:
        """What is on its way."""
        return [entry for planned in self._running.values() for entry in planned]

    @property
    def longest(self) -> int:
        """Tokens of a text that any lane takes; 0 where there are none."""
        return min((lane.most_tokens for lane in self._lanes), default=0)

    def rooms(self, lanes: Sequence[int]) -> list[tuple[int, int]]:
        """Tokens and texts that each of these takes in a batch."""
        return [(self._lanes[index].most_tokens, self._lanes[index].most_texts) for index in lanes]

    def start(self, lane: int, planned: Sequence[Planned]) -> None:
        """Compute these whole texts on an idle lane."""
        assert self._executor is not None, "there are no lanes"
        assert lane not in self._running, "the lane has a batch"
        self._running[lane] = planned
        self._executor.submit(self._compute, lane, planned)

    def _compute(self, lane: int, planned: Sequence[Planned]) -> None:
        began = self._clock()
        found: list[Vector] | BaseException | None
        try:
            found = self._lanes[lane].compute([Piece(seq, 0, entry.piece.tokens) for seq, entry in enumerate(planned)])
        except BaseException as error:
            found = error
        self._done.put((lane, Outcome(planned, found, self._clock() - began)))
        self._on_done()

    def take(self) -> list[Outcome]:
        """The batches that have ended since the last call; their lanes are idle again."""
        outcomes: list[Outcome] = []
        while not self._done.empty():
            lane, outcome = self._done.get()
            del self._running[lane]
            outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """Wait for what is computed, and end the threads. Idempotent."""
        if self._executor is not None:
            self._executor.shutdown()
