"""Carries out the commands about slots: copies cells out of the KV cache and into it, on the engine thread."""

from collections.abc import Buffer, Sequence

from engine.errors import EngineError, InvalidRequest, NativeError
from engine.text import slot_state
from engine.text.backend import Backend
from engine.text.books import Books
from engine.text.commands import EraseSlot, Mailbox, RestoreSlot, SaveSlot, SlotCommand
from engine.text.events import Failed, SlotDone
from engine.text.plan import Limits
from engine.text.slots import Remembered
from engine.text.snapshot import Snapshot

type Answer = tuple[Mailbox, SlotDone | Failed]


class SlotKeeper:
    """The commands that wait for their slots, in order of arrival."""

    def __init__(self, backend: Backend, books: Books) -> None:
        self._backend = backend
        self._books = books
        self._waiting: list[SlotCommand] = []

    def add(self, command: SlotCommand) -> None:
        """To be carried out as soon as the slot is free: nobody who waits for a slot gets it before."""
        self._waiting.append(command)

    def withdraw(self, command_id: str) -> None:
        """Nobody waits for the command any more. Unknown ids are ignored."""
        self._waiting = [command for command in self._waiting if command.id != command_id]

    def work(self) -> list[Answer]:
        """Carry out what can be; the answers."""
        ready = [command for command in self._waiting if self._is_free(command)]
        self._waiting = [command for command in self._waiting if command not in ready]
        return [(command.mailbox, self._answer(command)) for command in ready]

    def fail_all(self, error: EngineError) -> list[Answer]:
        """Nothing more is carried out; the answers."""
        waiting, self._waiting = self._waiting, []
        return [(command.mailbox, Failed(error=error)) for command in waiting]

    def _is_free(self, command: SlotCommand) -> bool:
        """Unknown slots count as free: they are refused at once."""
        return not 0 <= command.slot < self._books.limits.n_slots or self._books.slots.holder(command.slot) is None

    def _answer(self, command: SlotCommand) -> SlotDone | Failed:
        try:
            return self._carry_out(command)
        except EngineError as error:
            return Failed(error=error)

    def _carry_out(self, command: SlotCommand) -> SlotDone:
        n_slots = self._books.limits.n_slots
        if not 0 <= command.slot < n_slots:
            raise InvalidRequest(f"there are slots 0 to {n_slots - 1}", "id_slot")
        match command:
            case SaveSlot():
                return self._save(command.slot)
            case RestoreSlot(snapshot=snapshot):
                return self._restore(command.slot, snapshot)
            case EraseSlot():
                return SlotDone(n_tokens=slot_state.erase(self._books, command.slot))
            case _:
                raise AssertionError(f"not a command: {command!r}")

    def _save(self, slot: int) -> SlotDone:
        if self._books.limits.can_reuse:
            held = slot_state.hold(self._books, slot)
            try:
                self._check_text(slot, held.cached)
                cached = held.cached
                state: Buffer = self._backend.save_state(held.seq)
            finally:
                slot_state.let_go(self._books, held)
        else:
            cached, state = slot_state.kept(self._books, slot)
            self._check_text(slot, cached)
        snapshot = Snapshot(tokens=cached.tokens, adapters=cached.adapters, state=state)
        return SlotDone(n_tokens=len(snapshot.tokens), snapshot=snapshot)

    def _check_text(self, slot: int, cached: Remembered) -> None:
        if not _are_text(cached.tokens, self._books.limits):
            raise InvalidRequest(f"slot {slot} holds more than text, which cannot be saved", "id_slot")

    def _restore(self, slot: int, snapshot: Snapshot) -> SlotDone:
        limits, cached = self._books.limits, Remembered(snapshot.tokens, snapshot.adapters)
        if not 1 <= len(cached.tokens) <= limits.n_ctx_slot or not _are_text(cached.tokens, limits):
            raise InvalidRequest("the slot file does not fit this model and its context", "filename")
        if not slot_state.is_cached(self._books, cached):
            self._fill(cached, snapshot)
        self._books.slots.remember(slot, cached)
        return SlotDone(n_tokens=len(cached.tokens))

    def _fill(self, cached: Remembered, snapshot: Snapshot) -> None:
        held = slot_state.make_place(self._books, cached)
        try:
            self._backend.restore_state(held.seq, snapshot.state)
            first, last = self._backend.span(held.seq)
            # Of a window the first cells may be gone, and a recurrent state is but one.
            if (first and self._books.limits.can_reuse) or last != len(cached.tokens) - 1:
                raise NativeError("the restored state has other positions than its tokens")
        except NativeError as error:
            self._backend.remove(held.seq, 0, None)
            slot_state.give_back(self._books, held)
            raise InvalidRequest(f"the slot file cannot be restored: {error}", "filename") from error
        if self._books.limits.can_reuse:
            slot_state.keep(self._books, held)
            return
        self._backend.remove(held.seq, 0, None)
        slot_state.give_back(self._books, held)
        slot_state.keep_apart(self._books, cached, snapshot.state)


def _are_text(tokens: Sequence[int], limits: Limits) -> bool:
    return min(tokens) >= 0 and max(tokens) < limits.n_vocab
