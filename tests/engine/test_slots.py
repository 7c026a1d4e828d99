"""What slots remember, and which of them a request gets."""

from engine.text.context_shift import drop
from engine.text.slots import Remembered
from engine.text.tokens import row
from tests.engine.fake_backend import FakeBackend
from tests.engine.table import Table


def table_of(n_slots: int, similarity: float = 0.5) -> Table:
    return Table(FakeBackend(n_slots=n_slots, n_cells=512, n_ctx_slot=128), slot_similarity=similarity)


def run(table: Table, name: str, prompt: str, **fields: object) -> int:
    """Run a request to its end; the slot that it had."""
    sequence = table.ask(name, prompt, 1, **fields)
    table.scheduler.plan(table.now, 64)
    slot = sequence.slot
    table.finish()
    assert slot is not None
    return slot


def remembered(table: Table, slot: int) -> str | None:
    left = table.scheduler.books.slots.remembered(slot)
    return None if left is None else bytes(left.tokens.tolist()).decode()


def test_the_slot_whose_prompt_goes_on_is_preferred() -> None:
    table = table_of(3)
    assert [run(table, name, name * 10) for name in "abc"] == [0, 1, 2]
    assert run(table, "b2", "b" * 10 + "x") == 1
    assert run(table, "a2", "a" * 6 + "x") == 0, "six of ten are more than half"
    assert run(table, "b3", "b" * 5 + "y") == 2, "too little of any: the one unused longest"


def test_the_best_match_wins_not_the_oldest() -> None:
    table = table_of(2)
    run(table, "a", "p" * 10 + "a")
    run(table, "b", "p" * 10 + "b", slot=1)
    assert run(table, "c", "p" * 10 + "bcd") == 1


def test_exactly_the_share_is_not_enough_and_zero_is_off() -> None:
    for similarity, expected in ((0.5, 1), (0.4, 0), (0.0, 1)):
        table = table_of(2, similarity)
        run(table, "a", "a" * 10)
        assert run(table, "b", "a" * 5 + "x" * 5) == expected


def test_a_taken_slot_is_not_waited_for_however_similar() -> None:
    table = table_of(2)
    run(table, "a", "a" * 10)
    table.ask("a2", "a" * 12, 5)
    table.step()
    b = table.ask("b", "a" * 12 + "b", 5)
    table.step()
    assert (table.scheduler.find("a2").slot, b.slot) == (0, 1)


def test_a_slot_that_is_asked_for_beats_a_similar_one() -> None:
    table = table_of(2)
    run(table, "a", "a" * 10)
    assert run(table, "a2", "a" * 12, slot=1) == 1


def test_other_adapters_are_not_similar() -> None:
    table = table_of(2)
    run(table, "a", "a" * 10, adapters=((0, 1.0),))
    assert run(table, "plain", "a" * 10) == 1
    assert run(table, "a2", "a" * 10, adapters=((0, 1.0),)) == 0


def test_a_slot_remembers_what_was_computed_and_may_be_shared() -> None:
    table = table_of(1)
    run(table, "a", "abc")
    assert remembered(table, 0) == "abc", "the generated token was never computed"
    run(table, "private", "xyz", cache_prompt=False)
    assert remembered(table, 0) is None


def test_a_preempted_sequence_leaves_its_tokens_too() -> None:
    table = Table(FakeBackend(n_cells=24, n_ctx_slot=24, n_slots=2))
    table.ask("a", "a" * 10, 12)
    table.ask("b", "b" * 8, 12)
    table.until_preempted()
    left = table.scheduler.books.slots.remembered(1)
    assert left is not None
    assert bytes(left.tokens.tolist()).startswith(b"b" * 8)


def test_a_shifted_context_is_not_remembered() -> None:
    table = Table(FakeBackend(n_cells=20, n_slots=1))
    table.ask("a", "a" * 10, 20)
    table.finish()
    assert table.scheduler.books.slots.remembered(0) is None


def test_what_is_remembered_is_not_the_sequences_own_list() -> None:
    table = table_of(1)
    sequence = table.ask("a", "abc", 1)
    table.finish()
    sequence.tokens.append(0)
    assert table.scheduler.books.slots.remembered(0) == Remembered(row(b"abc"), ())


def test_what_is_remembered_of_one_that_gave_way_stays_when_it_drops_tokens() -> None:
    table = table_of(1)
    sequence = table.ask("a", "abcdefgh", 5)
    table.step()
    table.scheduler.books.preempt(sequence)
    drop(table.scheduler.books, sequence, 8)
    assert len(sequence.tokens) < 8
    assert remembered(table, 0) == "abcdefgh"


def test_among_many_that_begin_alike_the_conversation_finds_its_own() -> None:
    """All share more than half with the prompt, more of them than are compared to the end; it is the oldest."""
    table = Table(FakeBackend(n_slots=20, n_seqs=30, n_cells=2048, n_ctx_slot=128), slot_similarity=0.5)
    system = "you are a helpful machine "
    letters = "abcdefghijklmnop"
    for slot, name in enumerate(letters):
        run(table, name, system + name * 4, slot=slot)
    assert run(table, "a2", system + "a" * 4 + " and then") == 0
    assert run(table, "c2", system + "c" * 4 + " and then") == 2
