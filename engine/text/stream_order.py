"""Keeps the sequences that run in streams that follow on each other.

Where each sequence has a stream of its own the library computes those tokens of a batch at once whose streams have
consecutive numbers; each gap among them costs a further pass over the weights. Requests come and go, so after a while
there are gaps. A sequence may change streams with another one, which costs a copy of the cells of both: that is done
once the gaps have cost as much as closing them (to rent until the price is paid and then to buy costs at most twice
what the best choice in hindsight does: Karlin et al., Competitive Snoopy Caching, 1988).
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from engine.text.plan import PlannedRun, SchedulerMemory

# Cells that are copied out and in while the weights are passed over once: 25 µs and 25 to 30 ms, Qwen 0.5B, two cores.
GAP: Final = 1000
# Two sequences with more cells than that do not change streams: everybody waits meanwhile, 150 ms there.
MOST: Final = 6000
PATIENCE: Final = 64  # steps until it is looked again whether they have become shorter


class StreamOrder:
    """Which stream each sequence id has; at first that of the same number."""

    def __init__(self, n_seqs: int, memory: SchedulerMemory) -> None:
        self._memory = memory
        self._stream = list(range(n_seqs))  # of each id
        self._debt = 0  # cells that could have been copied in the time that gaps have cost
        # The ids that ran when nothing was done, what it would have cost, and steps until that is looked at again.
        self._refused: list[int] = []
        self._price = self._patience = 0

    def arrange(self, runs: list[PlannedRun]) -> None:
        """Sort the runs of a batch by stream; now and then two sequences change streams before that."""
        runs.sort(key=self._stream_of)
        gaps = self._gaps(runs)
        if gaps:
            self._debt += gaps * GAP
            running = [planned.run.seq for planned in runs]
            if self._may_pay(running) and self._close_a_gap(running):
                runs.sort(key=self._stream_of)

    def _stream_of(self, planned: PlannedRun) -> int:
        return self._stream[planned.run.seq]

    def _gaps(self, runs: Sequence[PlannedRun]) -> int:
        """Passes over the weights that there would not be without gaps, in runs sorted by stream.

        Sequences with more than one token, as prompts have, need a pass of their own wherever they are.
        """
        if not runs or self._stream_of(runs[-1]) - self._stream_of(runs[0]) == len(runs) - 1:
            return 0
        passes, last, counted = 0, -1, False
        for planned in runs:
            stream = self._stream_of(planned)
            counted = counted and stream == last + 1
            if not counted and len(planned.run.tokens) == 1:
                passes, counted = passes + 1, True
            last = stream
        return max(0, passes - 1)

    def _may_pay(self, running: list[int]) -> bool:
        """Whether to look what it costs to close the gaps: to look takes time too."""
        if running != self._refused:
            return True
        self._debt = min(self._debt, self._price)  # what cannot be had is not saved up for
        self._patience -= 1
        return self._debt == self._price and self._patience <= 0

    def _close_a_gap(self, running: list[int]) -> bool:
        """Let two sequences change streams if all such changes that are left to do are paid for."""
        cells = [self._memory.span(seq)[1] + 1 for seq in range(len(self._stream))]
        outside, inside = self._misplaced(running, cells)
        outside.sort(key=cells.__getitem__)
        inside.sort(key=cells.__getitem__)
        prices = [cells[a] + cells[b] for a, b in zip(outside, inside, strict=True)]
        too_long = prices[-1] > MOST
        if too_long or sum(prices) > self._debt:
            self._refused, self._price = running, sum(prices)
            self._debt, self._patience = min(self._debt, self._price), PATIENCE if too_long else 0
            return False
        a, b = outside[0], inside[0]
        if not self._memory.exchange(a, b):
            return False  # the next step may
        self._stream[a], self._stream[b] = self._stream[b], self._stream[a]
        self._debt -= prices[0]
        return True

    def _misplaced(self, running: Sequence[int], cells: Sequence[int]) -> tuple[list[int], list[int]]:
        """As many running ids as others: those outside and inside of the row of streams that is cheapest to clear."""
        holder = {stream: seq for seq, stream in enumerate(self._stream)}
        runs = set(running)
        # Put into a row: what others hold in it has to leave, and what the running ones hold in it does not.
        weights = [-cells[holder[at]] if holder[at] in runs else cells[holder[at]] for at in range(len(cells))]
        sums = [0, *accumulate(weights)]
        n = len(runs)
        first = min(range(len(cells) - n + 1), key=lambda at: sums[at + n] - sums[at])
        row = {holder[at] for at in range(first, first + n)}
        return [seq for seq in running if seq not in row], [seq for seq in row if seq not in runs]
