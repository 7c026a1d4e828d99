"""Each rule of the scheduler by itself, on schedules small enough to follow by hand."""

from itertools import pairwise

import pytest

from engine.errors import ContextExceeded, InvalidRequest
from engine.text.requests import GenerationRequest
from engine.text.sequence import Status
from engine.text.tokens import row
from tests.engine.driver import check_cells, reference
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.table import Table, sizes

# --- the batch ---


def test_decodes_go_first_and_prefill_fills_what_is_left_of_the_batch() -> None:
    table = Table(FakeBackend(n_batch=10))
    table.ask("a", "abc")
    table.ask("b", "bcd")
    table.step()
    table.ask("c", "c" * 20)
    assert sizes(table.step()) == [("a", 1), ("b", 1), ("c", 8)]
    assert sizes(table.step()) == [("a", 1), ("b", 1), ("c", 8)]
    assert sizes(table.step()) == [("a", 1), ("b", 1), ("c", 4)]
    assert sizes(table.step()) == [("a", 1), ("b", 1), ("c", 1)]


def test_the_prefill_limit_holds_while_streams_run_and_only_then() -> None:
    table = Table(FakeBackend(n_batch=16))
    table.ask("a", "a" * 20)
    assert sizes(table.step(prefill_limit=3)) == [("a", 16)]
    table.step(prefill_limit=3)
    table.ask("b", "b" * 20)
    assert sizes(table.step(prefill_limit=3)) == [("a", 1), ("b", 3)]
    assert sizes(table.step(prefill_limit=0)) == [("a", 1), ("b", 1)]
    assert sizes(table.step(prefill_limit=3, blocked={"a"})) == [("b", 16)]


def test_prefills_go_one_after_the_other_in_order_of_arrival() -> None:
    table = Table(FakeBackend(n_batch=8))
    for name in "abc":
        table.ask(name, name * 6)
    assert sizes(table.step()) == [("a", 6), ("b", 2)]
    assert sizes(table.step()) == [("a", 1), ("b", 4), ("c", 3)]


def test_more_requests_than_slots_wait_for_their_turn() -> None:
    table = Table(FakeBackend(n_slots=2))
    for name in "abcd":
        table.ask(name, name * 3, 2)
    table.step()
    assert (table.running, table.waiting) == (["a", "b"], ["c", "d"])
    table.step()
    assert sizes(table.step()) == [("c", 3), ("d", 3)]


def test_a_large_prompt_is_not_overtaken_for_ever() -> None:
    table = Table(FakeBackend(n_cells=40, n_ctx_slot=40, n_slots=4))
    table.ask("a", "a" * 20, 10)
    table.step()
    table.ask("large", "l" * 30, 2)
    for name in "cdefg":
        table.ask(name, name * 2, 2)
    table.step()
    assert table.running == ["a"], "room for the small ones, but the large one came first"
    table.finish()
    assert table.generated["large"] == continuation([108] * 30, 2)


def test_without_continuous_batching_a_round_ends_before_the_next_begins() -> None:
    table = Table(FakeBackend(n_slots=2), continuous_batching=False)
    table.ask("a", "aaa", 2)
    table.ask("b", "bbb", 4)
    table.ask("c", "ccc", 1)
    assert sizes(table.step()) == [("a", 3), ("b", 3)]
    for _ in range(3):
        table.step()
        assert "c" not in table.running
    assert sizes(table.step()) == [("c", 3)]


def test_who_goes_on_decoding_keeps_its_run_and_its_token_moves_it_on() -> None:
    table = Table()
    table.ask("a", "abc")
    table.ask("b", "bcd")
    table.step()
    first = table.step().runs
    table.ask("c", "cde" * 5, 1)
    second = table.step().runs
    assert [planned.run.start for planned in first] == [5, 5]
    assert [list(planned.run.tokens) for planned in first] == [table.generated[name][2:3] for name in "ab"]
    third = table.step().runs
    for runs in (second, third):
        assert all(kept is planned for kept, planned in zip(first, runs, strict=False)), "made anew"


def test_who_begins_again_from_all_but_its_last_token_shares_that_one_too() -> None:
    table = Table(FakeBackend(n_slots=1, n_seqs=1))
    sequence = table.ask("a", "abcdefgh", 8)
    table.until(lambda: len(table.generated["a"]) == 1)
    tokens = sequence.tokens[:]
    table.scheduler.books.restart(sequence)
    assert (sequence.n_past, sequence.n_pending) == (8, 1)
    assert table.step().n_plain == 0
    assert table.scheduler.cache.match(tokens) == len(tokens)


def test_a_decoded_plan_is_what_its_runs_one_by_one_would_be() -> None:
    tables = Table(FakeBackend(n_batch=8)), Table(FakeBackend(n_batch=8))
    for at_once, table in zip((True, False), tables, strict=True):
        table.ask("a", "abc")
        table.ask("b", "b" * 20)
        table.step()
        plan = table.scheduler.plan(table.now, 64)
        assert sizes(plan) == [("a", 1), ("b", 7)]
        table.backend.decode([planned.run for planned in plan.runs])
        if at_once:
            table.scheduler.decoded(plan)
        else:
            for planned in plan.runs:
                table.scheduler.computed(planned.sequence, len(planned.run.tokens))
        table.scheduler.check_integrity()
        check_cells(table.backend, table.scheduler)
    one, other = (table.scheduler for table in tables)
    b = row(b"b" * 20)
    assert (one.usage, one.cache.clock) == (other.usage, other.cache.clock)
    assert [s.n_past for s in one.running] == [s.n_past for s in other.running] == [4, 12]
    assert one.cache.match(b) == other.cache.match(b) == 12


# --- pace ---


def test_a_paced_request_gets_an_even_pace_and_others_are_not_slowed_down() -> None:
    table = Table()
    table.ask("slow", "abc", 5, tokens_per_second=0.25)
    table.ask("fast", "bcd", 20)
    times: dict[str, list[float]] = {"slow": [], "fast": []}
    for _ in range(20):
        now = table.now
        for planned in table.step().runs:
            if planned.run.logits:
                times[planned.sequence.request.id].append(now)
    assert times["slow"] == [0, 4, 8, 12, 16]
    assert times["fast"] == list(range(20))


def test_a_pace_that_was_missed_is_not_caught_up_with() -> None:
    table = Table()
    table.ask("slow", "abc", 9, tokens_per_second=0.5)
    table.step()
    table.now = 100.0
    times = []
    for _ in range(8):
        now = table.now
        if table.step().runs:
            times.append(now)
    assert times[0] == 100
    assert all(later - earlier >= 2 for earlier, later in pairwise(times))


def test_nothing_due_says_when_to_come_back() -> None:
    table = Table()
    table.ask("slow", "abc", 5, tokens_per_second=0.1)
    table.ask("slower", "bcd", 5, tokens_per_second=0.05)
    table.step()
    plan = table.step()
    assert (plan.runs, plan.wake_at) == ((), 10.0)
    assert table.step(blocked={"slow"}).wake_at == 20.0


def test_preemption_does_not_let_a_paced_request_run_ahead_of_its_pace() -> None:
    table = Table(FakeBackend(n_cells=24, n_ctx_slot=24, n_slots=2))
    table.ask("old", "abcdefgh", 12)
    table.ask("slow", "tuvwxyz", 5, tokens_per_second=0.01)
    for _ in range(60):
        table.step()
    assert table.n_preempted
    assert len(table.generated["slow"]) == 1, "the second token is due after 100 s"


# --- clients that do not read ---


def test_a_paused_request_is_skipped_and_goes_on_later() -> None:
    table = Table()
    table.ask("a", "abc", 4)
    table.ask("b", "bcd", 4)
    table.step()
    assert sizes(table.step(blocked={"a"})) == [("b", 1)]
    assert sizes(table.step()) == [("a", 1), ("b", 1)]


def test_a_paused_request_is_skipped_while_its_prompt_is_computed_too() -> None:
    table = Table(FakeBackend(n_batch=8))
    table.ask("a", "a" * 30, 4, report_progress=True)
    table.ask("b", "b" * 30, 4)
    table.step()
    assert sizes(table.step(blocked={"a"})) == [("b", 8)], "each chunk is one more unread event"


# --- refusals ---


def test_refusals_come_with_the_numbers() -> None:
    table = Table(FakeBackend(n_cells=64, n_slots=2))
    table.ask("fits", "a" * 31, 1)
    with pytest.raises(ContextExceeded) as caught:
        table.ask("large", "a" * 32)
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (32, 32)
    with pytest.raises(InvalidRequest, match="no tokens"):
        table.scheduler.validate(GenerationRequest(id="empty", prompt=[]))
    for slot in (-1, 2):
        with pytest.raises(InvalidRequest, match="slots 0 to 1") as refused:
            table.ask("slot", "a", slot=slot)
        assert refused.value.param == "id_slot"
    for token in (-1, 257):
        with pytest.raises(InvalidRequest, match="0 to 256"):
            table.scheduler.validate(GenerationRequest(id="foreign", prompt=[97, token]))
    with pytest.raises(InvalidRequest, match="fits"):
        table.ask("fits", "b")
    assert table.waiting == ["fits"]
    table.finish()


# --- slots ---


def test_a_request_gets_the_slot_that_it_asks_for_or_waits_for_it() -> None:
    table = Table(FakeBackend(n_slots=3))
    first = table.ask("a", "abc", 3, slot=2)
    second = table.ask("b", "bcd", 3, slot=2)
    third = table.ask("c", "cde", 3)
    table.step()
    assert (first.slot, second.slot, third.slot) == (2, None, 0)
    table.step()
    table.step()
    table.step()
    assert second.slot == 2


def test_the_slot_that_was_unused_longest_is_taken() -> None:
    table = Table(FakeBackend(n_slots=3))
    slots = []
    for name in "abcd":
        sequence = table.ask(name, name * 3, 1)
        table.scheduler.plan(0.0, 64)
        slots.append(sequence.slot)
        table.scheduler.end(sequence)
    assert slots == [0, 1, 2, 0]


# --- life cycle ---


def test_an_illegal_transition_says_what_it_was() -> None:
    table = Table()
    sequence = table.ask("a", "abc")
    table.scheduler.end(sequence)
    assert sequence.status is Status.ENDED
    assert table.scheduler.find("a") is None
    with pytest.raises(AssertionError, match=r"request a: .*ENDED cannot become .*RUNNING"):
        sequence.become(Status.RUNNING)


def test_the_reference_is_the_fake_model_itself() -> None:
    table = Table()
    sequence = table.ask("a", "abc", 7)
    table.finish()
    assert table.generated["a"] == reference(sequence.request, table.limits).tokens == continuation([97, 98, 99], 7)
