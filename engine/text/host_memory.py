"""Moves prompts between the KV cache and host memory: saves what leaves, brings back what returns.

Saved are the cells of idle prompts that are about to be given up, a block at a time; nothing is copied before that is
near. Brought back is what a request that has just been given a slot lacks, block by block, before it computes the rest.
Both cost time of the engine thread, so both have a budget for each step; see ``begin_step``.
"""

import logging
from collections.abc import Buffer, Callable, Hashable
from time import perf_counter
from typing import Final, Protocol

import attrs

from engine.errors import NativeError
from engine.text.copy_cost import CopyCost
from engine.text.host_cache import HostCache
from engine.text.info import EngineStats
from engine.text.media_cells import weight
from engine.text.prefix_node import Node
from engine.text.tokens import Tokens

log = logging.getLogger("engine.text")

# Tokens. A block of 256 is copied in about the time in which 1 is computed (measured, Qwen 0.5B on two cores).
BLOCK: Final = 256
# To bring back fewer is not worth the calls, nor is it to keep them.
LEAST: Final = 16


class Cells(Protocol):
    """Copies of cells (see ``engine.native.cells``). Positions are half-open ranges [p0, p1)."""

    def save(self, seq: int, p0: int, p1: int) -> Buffer:
        """The cells of a sequence in the range. Raises NativeError."""

    def restore(self, seq: int, p0: int, p1: int, state: Buffer) -> None:
        """Append the range, a part of what was saved, to a sequence that ends where it begins.

        All that was saved needs room for a moment. Raises NativeError; the sequence is as it was then.
        """


@attrs.define(kw_only=True)
class HostFigures:
    """Running totals: tokens, and seconds of the engine thread."""

    saved: int = 0
    restored: int = 0
    lost: int = 0  # left the KV cache unsaved: the step's budget was spent
    save_seconds: float = 0.0
    restore_seconds: float = 0.0


class HostMemory:
    """Satisfies ``engine.text.plan.HostPrompts``. ``limit``: bytes. Used by the engine thread alone."""

    def __init__(
        self,
        cells: Cells,
        limit: int,
        *,
        block_size: int = BLOCK,
        least: int = LEAST,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.cache = HostCache(limit, block_size)
        self.cost = CopyCost()
        self.figures = HostFigures()
        self._cells = cells
        self._least = least
        self._clock = clock
        self._compute: float | None = None
        self._left: float = float("inf")
        self._spared = True  # something may still be copied in this step
        self._safe: tuple[Node | None, int, int] = (None, 0, 0)  # this leaf, used then, is saved from this position on

    def begin_step(self, seconds: float, compute: float | None) -> None:
        """A step begins that may copy for so long, or one block at least; to compute a token takes ``compute`` s."""
        self._left = seconds
        self._spared = True
        self._compute = compute

    @property
    def may_copy(self) -> bool:
        """Whether the step's budget is not spent yet."""
        return self._spared

    @property
    def roomy(self) -> bool:
        """Whether half of the limit is free: what moves here early displaces nothing then."""
        return self.cache.n_bytes * 2 <= self.cache.limit

    def holds(self, leaf: Node) -> bool:
        """Whether all of a leaf's tokens are here."""
        key, tokens = leaf.path()
        return not self.cache.missing(tokens, leaf.start, key)

    # --- out of the KV cache ---

    def leaving(self, leaf: Node, seq: int, first: int) -> None:
        """The tokens from position ``first`` to the leaf's end are given up next; ``seq`` still holds them."""
        if self._is_safe(leaf, first) or leaf.end < self._least:
            return
        key, tokens = leaf.path()
        for p0, p1 in self.cache.missing(tokens, first, key):
            if not self._save(seq, tokens, p0, p1, key):
                self.figures.lost += p1 - max(p0, first)
        self._safe = (leaf, leaf.last_used, first)

    def prepare(self, leaf: Node, seq: int) -> None:
        """The leaf will be given up soon: save the last block of it that is not saved yet, if there is time."""
        if self._is_safe(leaf, leaf.start) or leaf.end < self._least or not self._spared:
            return
        key, tokens = leaf.path()
        missing = self.cache.missing(tokens, leaf.start, key)
        if missing and self._save(seq, tokens, *missing.pop(), key) and missing:
            return
        self._safe = (leaf, leaf.last_used, leaf.start)

    def _is_safe(self, leaf: Node, first: int) -> bool:
        safe, used, start = self._safe
        return leaf is safe and leaf.last_used == used and first >= start

    def _save(self, seq: int, tokens: Tokens, p0: int, p1: int, key: Hashable) -> bool:
        if not self._spared or not self.cost.saving_pays(self._compute):
            return False
        began = self._clock()
        try:
            state = self._cells.save(seq, p0, p1)
        except NativeError as error:
            log.warning("a prompt is not kept in memory: %s", error)
            return False
        kept = self.cache.put(tokens[:p1], p0, state, key)
        seconds = self._spend(began)
        self.cost.saved(weight(tokens[p0:p1]), seconds)
        self.figures.saved += p1 - p0
        self.figures.save_seconds += seconds
        return kept

    # --- into the KV cache ---

    def reach(self, tokens: Tokens, held: int, key: Hashable) -> int:
        """Up to which position tokens can be brought back, where the KV cache has the first ``held``; else ``held``."""
        if not self.cost.restoring_pays(self._compute):
            return held
        upto = self.cache.reach(tokens, held, key)
        return upto if upto - held >= self._least else held

    def needed(self, tokens: Tokens, position: int, key: Hashable) -> int:
        """Cells that have to be free for ``restore``; 0: there is nothing to restore."""
        found = self.cache.block_at(tokens, position, key)
        return 0 if found is None else weight(found[0].tokens)

    def restore(self, seq: int, tokens: Tokens, position: int, upto: int, key: Hashable) -> int:
        """Bring back the tokens from ``position`` to ``upto`` at most for a sequence that ends there.

        Returns the position that it ends at then; the same one if nothing could be brought back.
        """
        found = self.cache.block_at(tokens, position, key)
        if found is None or (state := found[0].state) is None:
            return position
        block, end = found
        end = min(end, upto)
        began = self._clock()
        try:
            self._cells.restore(seq, position, end, state)
        except NativeError as error:
            log.warning("a prompt cannot be brought back from memory: %s", error)
            self.cache.drop(block)
            return position
        seconds = self._spend(began)
        self.cost.restored(weight(block.tokens), seconds)
        self.figures.restored += end - position
        self.figures.restore_seconds += seconds
        return end

    # --- the rest ---

    def erase(self, tokens: Tokens, key: Hashable) -> None:
        """Forget these tokens, from their end on, as far as no other prompt goes on behind them."""
        self.cache.erase(tokens, key)

    def count(self, stats: EngineStats) -> None:
        """Put the figures where others see them."""
        figures = self.figures
        stats.host_bytes, stats.host_tokens = self.cache.n_bytes, self.cache.n_tokens
        stats.host_saved_total, stats.host_save_seconds_total = figures.saved, figures.save_seconds
        stats.host_restored_total, stats.host_restore_seconds_total = figures.restored, figures.restore_seconds
        stats.host_lost_total = figures.lost

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        self.cache.check_integrity()

    def _spend(self, began: float) -> float:
        seconds = max(self._clock() - began, 1e-9)
        self._left -= seconds
        self._spared = self._left > 0
        return seconds
