"""Several tokens appended at once: what the scheduler does with them, by hand."""

import pytest

from engine.text.plan import StepPlan
from engine.text.sequence import Sequence, Status
from tests.engine.driver import reference
from tests.engine.fake_backend import FakeBackend
from tests.engine.table import Table, sizes


def force(table: Table, sequence: Sequence, count: int) -> None:
    """Append ``count`` tokens without sampling: those that the model would have generated anyway."""
    generated = table.generated[sequence.request.id]
    coming = reference(sequence.request, table.limits, 500).tokens[len(generated) :][:count]
    assert len(coming) == count, "more than the request may generate"
    for token in coming:
        table.scheduler.append(sequence, token, table.now)
        generated.append(token)


def check(table: Table, *sequences: Sequence) -> None:
    for sequence in sequences:
        expected = reference(sequence.request, table.limits, 500)
        assert table.generated[sequence.request.id] == expected.tokens


def flags(plan: StepPlan) -> list[bool]:
    return [planned.run.logits for planned in plan.runs]


def test_forced_tokens_are_computed_in_one_run_with_logits_at_its_end() -> None:
    table = Table()
    a = table.ask("a", "abc", 20)
    table.step()
    force(table, a, 9)
    plan = table.step(prefill_limit=1)
    assert (sizes(plan), flags(plan)) == ([("a", 10)], [True])
    assert (plan.n_decode, plan.n_prefill) == (0, 10), "it costs what a prefill costs"
    assert sizes(table.step()) == [("a", 1)]
    table.finish()
    check(table, a)


def test_forced_tokens_of_one_stream_do_not_slow_another_down() -> None:
    table = Table(FakeBackend(n_batch=32))
    a, b = table.ask("a", "abc", 40), table.ask("b", "bcd", 40)
    table.step()
    force(table, a, 9)
    plan = table.step(prefill_limit=6)
    assert (sizes(plan), flags(plan)) == ([("a", 7), ("b", 1)], [False, True])
    assert sizes(table.step(prefill_limit=6)) == [("a", 3), ("b", 1)]
    force(table, a, 3)
    force(table, b, 5)
    assert sizes(table.step(prefill_limit=6)) == [("a", 4), ("b", 4)], "in order of admission"
    assert sizes(table.step(prefill_limit=6)) == [("a", 1), ("b", 2)]
    table.finish()
    check(table, a, b)


def test_forced_tokens_go_before_a_prefill_which_still_moves() -> None:
    table = Table(FakeBackend(n_batch=32))
    a = table.ask("a", "abc", 40)
    table.step()
    force(table, a, 11)
    b = table.ask("b", "b" * 30, 4)
    assert sizes(table.step(prefill_limit=4)) == [("a", 12), ("b", 1)]
    force(table, a, 1)
    assert sizes(table.step(prefill_limit=4)) == [("a", 2), ("b", 3)]
    table.finish()
    check(table, a, b)


def test_more_forced_tokens_than_a_batch_takes_wait_for_the_next() -> None:
    table = Table(FakeBackend(n_batch=8, n_slots=2))
    a, b = table.ask("a", "abc", 40), table.ask("b", "bcd", 12)
    table.step()
    force(table, a, 20)
    assert sizes(table.step()) == [("a", 7), ("b", 1)]
    assert sizes(table.step(blocked={"b"})) == [("a", 8)]
    assert sizes(table.step()) == [("a", 6), ("b", 1)]
    table.finish()
    check(table, a, b)


def test_a_forced_token_costs_its_share_of_the_pace() -> None:
    table = Table()
    a = table.ask("a", "abc", 30, tokens_per_second=0.5)
    table.step(tick=0)
    began = table.now
    force(table, a, 4)
    plan = table.step(tick=0)
    assert (plan.runs, plan.wake_at) == ((), began + 10), "five tokens at two seconds each"
    table.now = plan.wake_at
    assert sizes(table.step(tick=0)) == [("a", 5)]
    assert table.step(tick=0).wake_at == began + 12


@pytest.mark.parametrize("n_discard", [0, 1])
@pytest.mark.parametrize("n_forced", [1, 5, 6, 17, 40])
def test_a_context_that_forced_tokens_fill_is_shifted_where_it_is_full(n_forced: int, n_discard: int) -> None:
    table = Table(FakeBackend(n_cells=24, n_slots=1))
    a = table.ask("a", "abcdefgh", 80, n_keep=4, n_discard=n_discard)
    table.until(lambda: a.n_past == 18)
    force(table, a, n_forced)
    table.finish()
    check(table, a)
    assert a.truncated


def test_a_context_that_may_not_be_shifted_ends_at_the_forced_token_that_fills_it() -> None:
    table = Table(FakeBackend(n_cells=24, n_slots=1))
    a = table.ask("a", "abcdefgh", 80, until_context_full=True)
    table.until(lambda: a.n_past == 18)
    ends = []
    for _ in range(6):
        force(table, a, 1)
        ends.append(table.scheduler.must_end(a))
    assert ends == [False] * 5 + [True]
    assert len(a.tokens) == 25, "the last one need not be computed"


@pytest.mark.parametrize("n_discard", [0, 1])
def test_a_full_context_with_shared_cells_is_computed_again_with_what_is_forced(n_discard: int) -> None:
    table = Table(FakeBackend(n_cells=60, n_ctx_slot=24, n_slots=2))
    prompt = "abcdefghijklmnopqrst"
    a = table.ask("a", prompt, 60, n_discard=n_discard)
    table.step()
    b = table.ask("b", prompt, 3)
    table.step()
    force(table, a, 20)
    table.until(lambda: a.truncated, blocked={"b"})
    assert not a.shifted, "computed again, because b shares the prompt's cells"
    table.finish()
    check(table, a, b)


@pytest.mark.parametrize("n_discard", [0, 1])
def test_who_is_preempted_with_more_than_a_context_is_shifted_when_he_comes_back(n_discard: int) -> None:
    table = Table(FakeBackend(n_cells=32, n_ctx_slot=32, n_slots=2))
    old = table.ask("old", "abcdef", 24)
    full = table.ask("full", "abcdef", 80, n_discard=n_discard)
    table.until(lambda: full.n_past == 12)
    force(table, full, 30)
    table.until(lambda: full.status is Status.WAITING)
    assert len(full.tokens) > 32
    table.finish()
    check(table, old, full)


def test_forced_tokens_evict_what_is_idle_and_preempt_nobody() -> None:
    table = Table(FakeBackend(n_cells=40, n_ctx_slot=40, n_slots=2))
    table.ask("gone", "z" * 20, 1)
    table.finish()
    a, b = table.ask("a", "abcd", 28), table.ask("b", "bcde", 3)
    table.until(lambda: len(table.running) == 2)
    force(table, a, 20)
    assert sizes(table.step()) == [("a", 21), ("b", 1)]
    assert table.n_preempted == 0
    table.finish()
    check(table, a, b)


def test_an_aborted_run_of_forced_tokens_goes_on_where_it_was() -> None:
    table = Table()
    a = table.ask("a", "abc", 20)
    table.step()
    force(table, a, 9)
    (planned,) = table.scheduler.plan(table.now, 64).runs
    table.backend.decode([planned.run])
    table.backend.remove(planned.run.seq, planned.run.start + 4, None)
    table.scheduler.computed(a, 4)
    table.scheduler.check_integrity()
    assert sizes(table.step()) == [("a", 6)]
    table.finish()
    check(table, a)
