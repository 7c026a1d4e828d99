"""The store of responses against a plain account of what is in it."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llamabox.response_store import Kept, ResponseStore, Turn

MAX_BYTES, MAX_RESPONSES = 60, 6
SIZES = st.integers(0, 30)


def turn(before: Turn | None, *given: bytes, answer: Sequence[bytes] = ()) -> Turn:
    return Turn(before, given, answer)


def needed(turns: Sequence[Turn]) -> set[Turn]:
    """The turns and all before them."""
    found: set[Turn] = set()
    for last in turns:
        step: Turn | None = last
        while step is not None:
            found.add(step)
            step = step.before
    return found


class Books(RuleBasedStateMachine):
    """Responses come, are used, go, and are gone on from, even from turns that nobody keeps any more."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ResponseStore(MAX_BYTES, MAX_RESPONSES)
        self.turns: list[Turn] = []
        self.kept: dict[str, Kept] = {}  # the least recently used first

    @rule(data=st.data(), head=SIZES, given=SIZES, answer=SIZES)
    def keep(self, data: st.DataObject, head: int, given: int, answer: int) -> None:
        before = data.draw(st.sampled_from([None, *self.turns]))
        new = Kept(bytes(head), Turn(before, [bytes(given)], [bytes(answer)], [f"msg_{len(self.turns)}"]))
        name = f"resp_{len(self.turns)}"
        self.turns.append(new.turn)
        self.store.keep(name, new)
        if self.size([new]) <= MAX_BYTES:
            self.kept[name] = new
            while self.size(list(self.kept.values())) > MAX_BYTES or len(self.kept) > MAX_RESPONSES:
                del self.kept[next(iter(self.kept))]

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        name = self.name(data)
        assert self.store.get(name) is self.kept.get(name)
        if name in self.kept:
            self.kept[name] = self.kept.pop(name)

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = self.name(data)
        assert self.store.delete(name) is (self.kept.pop(name, None) is not None)

    @invariant()
    def counts(self) -> None:
        assert self.store.size == self.size(list(self.kept.values())) <= MAX_BYTES
        assert len(self.store) == len(self.kept) <= MAX_RESPONSES
        there = needed([one.turn for one in self.kept.values()])
        for each in self.turns:
            assert self.store.item(each.ids[0]) is (each.answer[0] if each in there else None)

    def name(self, data: st.DataObject) -> str:
        return f"resp_{data.draw(st.integers(0, len(self.turns) - 1))}"

    def size(self, kept: Sequence[Kept]) -> int:
        items = [item for step in needed([one.turn for one in kept]) for item in (*step.given, *step.answer)]
        return sum(map(len, items)) + sum(len(one.head) for one in kept)


Books.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
TestBooks = Books.TestCase


def test_a_conversation_is_its_turns_in_order() -> None:
    first = turn(None, b"1", b"2", answer=[b"3"])
    last = turn(turn(first, b"4", answer=[b"5", b"6"]), b"7", answer=[b"8"])
    assert b"".join(last.items) == b"12345678"
    assert b"".join(last.input) == b"1234567"
    assert b"".join(turn(first, b"4").items) == b"1234"


def test_many_turns_of_one_conversation_count_once_each() -> None:
    store = ResponseStore()
    last = None
    for number in range(2000):
        last = turn(last, b"12345", answer=[b"67890"])
        store.keep(f"resp_{number}", Kept(b"head", last))
    assert store.size == 2000 * 14
    for number in range(1999):
        assert store.delete(f"resp_{number}")
    assert store.size == 2000 * 10 + 4
    kept = store.get("resp_1999")
    assert kept is not None
    assert len(kept.turn.items) == 4000
    assert store.delete("resp_1999")
    assert (store.size, len(store)) == (0, 0)


def test_what_is_too_large_leaves_the_others_alone() -> None:
    store = ResponseStore(max_bytes=10)
    store.keep("small", Kept(b"12", turn(None)))
    store.keep("large", Kept(b"", turn(None, bytes(11))))
    assert (store.get("small") is None, store.get("large")) == (False, None)
