"""Computes the masks of steered sequences: on threads of its own while the engine thread decodes, or when asked.

Threads pay only on cores that the decode leaves idle: with two decoding threads on two cores a step took 2 ms longer
with masks computed beside it, against 0.1 ms for each mask that is computed between two steps.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from engine.native.threads import unbind
from engine.text.sequence import Sequence
from engine.text.steering import Steering


class Masks:
    """Used by the engine thread. ``threads`` at most, none until the first mask is needed; 0: no threads ever."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._steered: dict[Sequence, Steering] = {}
        self._pending: dict[Sequence, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """How many sequences are steered."""
        return len(self._steered)

    def add(self, sequence: Sequence, steering: Steering) -> None:
        """The sequence is steered from now on."""
        self._steered[sequence] = steering

    def remove(self, sequence: Sequence) -> None:
        """The sequence has ended; a mask that is being computed for it ends unnoticed."""
        self._steered.pop(sequence, None)
        self._pending.pop(sequence, None)

    def start(self, sequences: Iterable[Sequence]) -> None:
        """Begin with the masks of those among the sequences that need one. Does not block."""
        if not self._threads:
            return
        for sequence in sequences:
            steering = self._steered.get(sequence)
            if steering is None or sequence in self._pending or not steering.needs_mask:
                continue
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "llama-box masks", initializer=unbind)
            self._pending[sequence] = self._pool.submit(steering.compute_mask)

    def wait(self, sequence: Sequence) -> None:
        """Wait for the mask that is being computed for a sequence, if one is: until then its steering is not ours."""
        pending = self._pending.pop(sequence, None)
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """End the threads. Idempotent; masks can be computed again afterwards."""
        self._pending.clear()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
