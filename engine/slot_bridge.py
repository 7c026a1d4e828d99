"""Saving, restoring and erasing slots, as Trio code sees it: cells are copied on the engine thread, files are not.

A part of the bridge (see ``engine.bridge``).
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import attrs
import trio

from engine.errors import EngineError, InvalidRequest
from engine.text.backend import Backend
from engine.text.commands import Cancel, Command, EraseSlot, RestoreSlot, SaveSlot, SlotCommand
from engine.text.events import Failed, Notice, SlotDone
from engine.text.snapshot import Snapshot, read_snapshot, write_snapshot


@attrs.frozen
class SlotFile:
    """What was written or read: tokens, and the file's size in bytes."""

    n_tokens: int
    n_bytes: int


class Errand:
    """Where the one answer to a command goes. One task waits for it."""

    def __init__(self, errand_id: str) -> None:
        self.id = errand_id
        self._arrived = trio.Event()
        self._answer: Notice | None = None

    def full(self) -> bool:
        """See ``engine.text.commands.Mailbox``."""
        return False

    def posted(self) -> None:
        """Called by the engine thread: the answer is on its way."""

    def put(self, answer: Notice) -> None:
        """Called in the loop. Only the first answer counts."""
        self._answer = self._answer or answer
        self._arrived.set()

    @property
    def answered(self) -> bool:
        return self._answer is not None

    async def answer(self) -> SlotDone:
        """Wait for it. Raises the EngineError that it may be."""
        await self._arrived.wait()
        match self._answer:
            case SlotDone():
                return self._answer
            case Failed(error=error):
                raise error
            case _:
                raise AssertionError(f"not an answer: {self._answer!r}")


class SlotDesk:
    """Runs errands of one engine. Leaving an errand withdraws it; what the thread is doing right now it still does."""

    def __init__(self, backend: Backend, send: Callable[[Command], None], n_ctx_slot: int) -> None:
        self._backend = backend
        self._send = send
        self._n_ctx_slot = n_ctx_slot
        self._errands: set[Errand] = set()
        self._ids = (f"slot-errand-{number}" for number in count())

    async def save(self, slot: int, path: Path) -> SlotFile:
        """See ``TextEngine.save_slot``."""
        self._check()
        done = await self._run(lambda errand: SaveSlot(errand.id, slot, errand))
        assert done.snapshot is not None, "saving copies"
        return SlotFile(done.n_tokens, await trio.to_thread.run_sync(self._write, path, done.snapshot))

    async def restore(self, slot: int, path: Path) -> SlotFile:
        """See ``TextEngine.restore_slot``."""
        self._check()
        snapshot, size = await trio.to_thread.run_sync(self._read, path)
        done = await self._run(lambda errand: RestoreSlot(errand.id, slot, errand, snapshot))
        return SlotFile(done.n_tokens, size)

    async def erase(self, slot: int) -> int:
        """See ``TextEngine.erase_slot``."""
        done = await self._run(lambda errand: EraseSlot(errand.id, slot, errand))
        return done.n_tokens

    def fail_all(self, error: EngineError) -> None:
        """The thread is gone: whoever still waits must not wait for ever."""
        for errand in self._errands:
            errand.put(Failed(error=error))

    async def _run(self, command: Callable[[Errand], SlotCommand]) -> SlotDone:
        errand = Errand(next(self._ids))
        self._errands.add(errand)
        self._send(command(errand))
        try:
            return await errand.answer()
        finally:
            self._errands.discard(errand)
            if not errand.answered:
                self._send(Cancel(errand.id))

    def _check(self) -> None:
        if not self._backend.info.can_copy_state:
            raise InvalidRequest("the cached prompts of a model with a sliding window cannot be saved with --swa-full")

    def _write(self, path: Path, snapshot: Snapshot) -> int:
        return write_snapshot(path, snapshot, self._backend.identity)

    def _read(self, path: Path) -> tuple[Snapshot, int]:
        return read_snapshot(path, self._backend.identity, self._n_ctx_slot)
