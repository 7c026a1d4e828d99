"""Prompts in host memory where the KV cache cannot be cut: models with a recurrent state, or with a sliding window.

What such a model has computed is right for one length only. So whole states are kept, of chosen lengths, and found
again by longest prefix. A state is kept of

1. a prompt without its last ``TAIL`` tokens, which the next turn of a conversation may write in another way;
2. what a prompt has in common with another one, where both go on differently: others may begin like that too;
3. all that a request leaves behind: the next turn goes on from there if it repeats the answer as it was generated.

The last two are the choice of "Marconi: Prefix Caching for the Era of Hybrid LLMs" (Pan et al., arXiv:2411.19379).
"""

import logging
from collections.abc import Buffer, Callable, Hashable, Iterable
from time import perf_counter
from typing import Final, Protocol

import attrs

from engine.errors import NativeError
from engine.text.host_memory import HostFigures
from engine.text.info import EngineStats
from engine.text.media_cells import last_position, weight
from engine.text.tokens import Tokens, common_prefix

log = logging.getLogger("engine.text")

# Tokens. The end of a prompt asks for an answer; it is written otherwise once the answer is there.
TAIL: Final = 16
# Fewer tokens are not worth the copy of a whole state.
LEAST: Final = 64
# Each new prompt is compared with all of them.
MOST: Final = 512
_TOKEN_BYTES: Final = 8  # of a token that is kept with a state


class States(Protocol):
    """What of a backend is needed (see ``engine.text.backend.Backend``)."""

    def save_state(self, seq: int) -> bytearray: ...

    def restore_state(self, seq: int, state: Buffer) -> None: ...

    def span(self, seq: int) -> tuple[int, int]: ...


@attrs.define(eq=False)
class _Checkpoint:
    key: Hashable
    tokens: Tokens
    state: Buffer
    n_bytes: int
    n_uses: int = 0

    def begins(self, tokens: Tokens, key: Hashable) -> bool:
        """Whether the tokens begin with all of its own."""
        n = len(self.tokens)
        return self.key == key and n <= len(tokens) and tokens[n - 1] == self.tokens[-1] and tokens[:n] == self.tokens


class Checkpoints:
    """``limit``: bytes. ``window``: tokens that a token sees where that is limited, else 0. One thread.

    A key says what states were computed with; only the same key may use them.
    """

    def __init__(
        self,
        states: States,
        limit: int,
        *,
        window: int = 0,
        least: int = LEAST,
        tail: int = TAIL,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.figures = HostFigures()
        self.limit = limit
        self.least = least
        self.n_bytes = 0
        self._states = states
        self._window = window
        self._tail = tail
        self._clock = clock
        self._kept: list[_Checkpoint] = []  # the one to be given up first comes first
        self._left = float("inf")

    # --- which lengths ---

    def lengths(self, tokens: Tokens, held: int, key: Hashable, others: Iterable[Tokens]) -> list[int]:
        """Of which beginnings of a prompt the state is to be kept, the shortest first.

        ``held``: tokens that need not be computed; ``others``: prompts that are being computed with the same key.
        """
        seen = [kept.tokens for kept in self._kept if kept.key == key]
        branch = max((common_prefix(other, tokens) for other in (*seen, *others)), default=0)
        end = max(0, len(tokens) - self._tail)
        while tokens[end] < 0:  # a medium is not cut, and text follows on the last one
            end += 1
        chosen: list[int] = []
        for length in (min(branch, end), end):
            if length - held >= self.least:
                chosen.append(length)
                held = length
        return chosen

    # --- out of the KV cache ---

    def save(self, seq: int, tokens: Tokens, key: Hashable, *, is_left: bool = False) -> None:
        """Keep the state of a sequence that holds just these tokens.

        ``is_left``: by a request that gives up its slot; who comes back may as well go on from its prompt.
        """
        if len(tokens) < self.least:
            return
        if self._is_known(tokens, key) or not self._is_whole(seq, tokens):
            return
        began = self._clock()
        try:
            state = self._states.save_state(seq)
        except NativeError as error:
            log.warning("a prompt is not kept in memory: %s", error)
            return
        self.figures.saved += len(tokens)
        self.figures.save_seconds += self._spend(began)
        if not is_left:
            self._pass(tokens, key)
        self._keep(_Checkpoint(key, tokens, state, _size(tokens, state)))

    def _is_whole(self, seq: int, tokens: Tokens) -> bool:
        """Whether the state is of just these tokens, and all is there that the next one sees."""
        first, last = self._states.span(seq)
        if last != last_position(tokens[-1], len(tokens)):
            return False
        return not self._window or first <= max(0, len(tokens) - self._window)

    def _pass(self, tokens: Tokens, key: Hashable) -> None:
        """A conversation has gone on: earlier states of it are given up first, unless others go on from there too."""
        passed = [kept for kept in self._kept if kept.n_uses <= 1 and kept.begins(tokens, key)]
        self._kept = [*passed, *(kept for kept in self._kept if kept not in passed)]

    def _keep(self, new: _Checkpoint) -> None:
        self._kept.append(new)
        self.n_bytes += new.n_bytes
        while self.n_bytes > self.limit or len(self._kept) > MOST:
            self._drop(self._kept[0])

    # --- into the KV cache ---

    def begin_step(self, seconds: float, compute: float | None) -> None:
        """A step begins that may copy for so long, or one state at least."""
        self._left = seconds

    @property
    def may_copy(self) -> bool:
        """Whether the step's budget is not spent yet."""
        return self._left > 0

    def reach(self, tokens: Tokens, held: int, key: Hashable) -> int:
        """How many tokens a sequence can start from that holds ``held``: only an empty one gets any. Else ``held``."""
        # The last token is always computed, for its logits.
        found = self._longest(tokens, len(tokens) - 1, key) if held == 0 else None
        return held if found is None else len(found.tokens)

    def needed(self, tokens: Tokens, position: int, key: Hashable) -> int:
        """Cells that have to be free for ``restore``; 0: there is nothing to restore."""
        return weight(tokens[position : self.reach(tokens, position, key)])

    def restore(self, seq: int, tokens: Tokens, position: int, upto: int, key: Hashable) -> int:
        """Give an empty sequence the longest state that its first ``upto`` tokens begin with.

        Returns how many tokens it holds then.
        """
        found = self._longest(tokens, upto, key) if position == 0 else None
        if found is None:
            return position
        began = self._clock()
        try:
            self._states.restore_state(seq, found.state)
        except NativeError as error:
            log.warning("a prompt cannot be brought back from memory: %s", error)
            self._drop(found)
            return position
        found.n_uses += 1
        self._touch(found)
        self.figures.restored += len(found.tokens)
        self.figures.restore_seconds += self._spend(began)
        return len(found.tokens)

    def _longest(self, tokens: Tokens, most: int, key: Hashable) -> _Checkpoint | None:
        found: _Checkpoint | None = None
        for kept in self._kept:
            is_longer = found is None or len(kept.tokens) > len(found.tokens)
            if is_longer and len(kept.tokens) <= most and kept.begins(tokens, key):
                found = kept
        return found

    # --- into and out of files ---

    def find(self, tokens: Tokens, key: Hashable) -> tuple[Tokens, Buffer] | None:
        """The longest state that the tokens begin with, and its tokens."""
        found = self._longest(tokens, len(tokens), key)
        return None if found is None else (found.tokens, found.state)

    def put(self, tokens: Tokens, key: Hashable, state: Buffer) -> bool:
        """Keep a state of just these tokens that came from elsewhere. False: it is larger than all that may be kept."""
        if self._is_known(tokens, key):
            return True
        new = _Checkpoint(key, tokens, state, _size(tokens, state))
        if new.n_bytes > self.limit:
            return False
        self._keep(new)
        return True

    # --- the rest ---

    def erase(self, tokens: Tokens, key: Hashable) -> int:
        """Forget what the tokens begin with, unless another prompt goes on behind it. Returns how many that were."""
        mine = [kept for kept in self._kept if kept.begins(tokens, key)]
        others = [kept.tokens for kept in self._kept if kept not in mine]
        for kept in mine:
            if not any(kept.begins(other, key) for other in others):
                self._drop(kept)
        return max((len(kept.tokens) for kept in mine), default=0)

    def count(self, stats: EngineStats) -> None:
        """Put the figures where others see them."""
        figures = self.figures
        stats.host_bytes, stats.host_tokens = self.n_bytes, sum(len(kept.tokens) for kept in self._kept)
        stats.host_saved_total, stats.host_save_seconds_total = figures.saved, figures.save_seconds
        stats.host_restored_total, stats.host_restore_seconds_total = figures.restored, figures.restore_seconds

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        assert self.n_bytes == sum(kept.n_bytes for kept in self._kept), "bytes that are counted wrongly"
        assert self.n_bytes <= self.limit, "more bytes than are allowed"

    def _is_known(self, tokens: Tokens, key: Hashable) -> bool:
        """Whether there is a state of just these tokens; it counts as used."""
        known = next((kept for kept in self._kept if kept.tokens == tokens and kept.key == key), None)
        if known is not None:
            self._touch(known)
        return known is not None

    def _touch(self, kept: _Checkpoint) -> None:
        self._kept.remove(kept)
        self._kept.append(kept)

    def _drop(self, kept: _Checkpoint) -> None:
        self._kept.remove(kept)
        self.n_bytes -= kept.n_bytes

    def _spend(self, began: float) -> float:
        seconds = max(self._clock() - began, 1e-9)
        self._left -= seconds
        return seconds


def _size(tokens: Tokens, state: Buffer) -> int:
    return memoryview(state).nbytes + _TOKEN_BYTES * len(tokens)
