"""Copies of a part of a sequence's cells: out of the KV cache and into it, by way of a sequence of its own.

The library copies whole sequences only, and replaces what the target held. A sequence that nobody else uses takes the
part in between: sharing cells with it costs no memory, and moves nothing.
"""

from collections.abc import Buffer

from engine.errors import NativeError
from engine.native.context import Context


class CellCopier:
    """``scratch``: a sequence of the context that is empty between two calls. For unified caches."""

    def __init__(self, context: Context, scratch: int) -> None:
        self._context = context
        self._scratch = scratch

    def save(self, seq: int, p0: int, p1: int) -> bytearray:
        """The cells of ``seq`` at positions [p0, p1), as ``restore`` takes them. Raises NativeError."""
        self._context.memory.copy(seq, self._scratch, p0, p1)
        try:
            return self._context.memory.save_state(self._scratch)
        finally:
            self._context.memory.remove(self._scratch, 0, None)

    def restore(self, seq: int, p0: int, p1: int, state: Buffer) -> None:
        """Give ``seq``, which holds nothing there, the positions [p0, p1) of what was saved, which may hold more.

        For as long as it takes, all that was saved needs cells. Raises NativeError when there are not enough, and for a
        state that lacks a position; nothing has changed then.
        """
        self._context.memory.restore_state(self._scratch, state)
        try:
            first, _ = self._context.memory.span(self._scratch)
            if not 0 <= first <= p0:
                raise NativeError(f"a saved state begins at position {first}, not at {p0}")
            self._context.memory.copy(self._scratch, seq, p0, p1)
        finally:
            self._context.memory.remove(self._scratch, 0, None)
