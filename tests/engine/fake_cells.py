"""Copies of cells on the fake KV cache, with the same rules as the library's: a sequence is replaced as a whole."""

import pickle
from collections.abc import Buffer, Callable

from engine.errors import NativeError
from tests.engine.fake_backend import Cell, FakeBackend, FakeKv, FakeStreams


class FakeCells:
    """Satisfies engine.text.host_memory.Cells. ``failing``: "save", "restore"."""

    def __init__(self, backend: FakeBackend) -> None:
        self.kv: FakeKv = backend.kv
        self._scratch = backend.n_seqs
        self.failing: set[str] = set()
        self.before_copy: Callable[[], None] = lambda: None
        self.n_saves = 0
        self.n_restores = 0

    def save(self, seq: int, p0: int, p1: int) -> Buffer:
        self.n_saves += 1
        self.before_copy()
        if "save" in self.failing:
            raise NativeError("the copy fails")
        cells = sorted(self.kv.of(seq, p0, p1), key=lambda cell: cell.position)
        assert [cell.position for cell in cells] == list(range(p0, p1)), "what is saved is not there"
        state = [(cell.token, cell.position, cell.adapters, cell.more) for cell in cells]
        return pickle.dumps(state) + bytes(100 * sum(1 + cell.more for cell in cells))

    def restore(self, seq: int, p0: int, p1: int, state: Buffer) -> None:
        self.n_restores += 1
        self.before_copy()
        if "restore" in self.failing:
            raise NativeError("the copy fails")
        assert len(self.kv.of(seq)) == p0, "the sequence does not end where the copy begins"
        own = isinstance(self.kv, FakeStreams)
        target = seq if own else self._scratch
        cells = [Cell(token, position, {target}, key, more) for token, position, key, more in pickle.loads(state)]
        if own:
            self.kv.cells += [cell for cell in cells if p0 <= cell.position < p1]
            assert self.kv.room(seq) >= 0, "the books promised room"
            return
        assert not self.kv.of(self._scratch), "the scratch sequence is in use"
        assert self.kv.used + sum(1 + cell.more for cell in cells) <= self.kv.n_cells, "the books promised room"
        self.kv.cells += cells
        self.kv.copy(self._scratch, seq, p0, p1)
        self.kv.remove(self._scratch, 0, None)
