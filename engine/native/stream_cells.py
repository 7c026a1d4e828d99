"""Copies of a part of a sequence's cells where each sequence has a stream of its own.

The library saves and replaces whole sequences only, so parts are cut out of the whole, and appended to it.
"""

from collections.abc import Buffer
from typing import Final

from engine.errors import NativeError
from engine.native.context import Context
from engine.native.seq_state import SeqState, parse

# A prompt is saved a block at a time, and each time the library copies all of it. Up to this size the copy is kept
# until something is taken out of its sequence; what is appended changes nothing of it.
_KEPT: Final = 64 << 20


class StreamCopier:
    """Satisfies ``engine.text.host_memory.Cells``."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: tuple[int, int, SeqState] | None = None  # of this sequence, when it had changed so often

    def save(self, seq: int, p0: int, p1: int) -> bytearray:
        """The cells of ``seq`` at positions [p0, p1), as ``restore`` takes them. Raises NativeError."""
        try:
            return self._whole(seq, p1).cut(p0, p1).to_bytes()
        except ValueError as error:
            raise NativeError(f"sequence {seq} cannot be copied: {error}") from error

    def restore(self, seq: int, p0: int, p1: int, state: Buffer) -> None:
        """Give ``seq``, which ends before ``p0``, the positions [p0, p1) of what was saved, which may hold more.

        Raises NativeError for a state that lacks a position; nothing has changed then.
        """
        before = self._context.memory.save_state(seq) if p0 else None
        try:
            part = parse(state).cut(p0, p1)
            if before is not None:
                part = parse(before).cut(0, p0).joined(part)
        except ValueError as error:
            raise NativeError(f"a saved state cannot be used: {error}") from error
        try:
            self._context.memory.restore_state(seq, part.to_bytes())
        except NativeError:
            if before is not None:
                self._context.memory.restore_state(seq, before)
            raise

    def _whole(self, seq: int, end: int) -> SeqState:
        """All cells of a sequence, at least up to position ``end``: those that were kept, if nothing was taken out."""
        changes = self._context.memory.n_changes(seq)
        if self._kept is not None and self._kept[:2] == (seq, changes) and len(self._kept[2].meta) >= end:
            return self._kept[2]
        state = self._context.memory.save_state(seq)
        whole = parse(state)
        self._kept = (seq, changes, whole) if len(state) <= _KEPT else None
        return whole
