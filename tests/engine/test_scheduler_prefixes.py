"""What the scheduler shares between prompts, on schedules small enough to follow by hand."""

from engine.text.prompt_index import LEAST_COMMON
from engine.text.tokens import row
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.table import Table, sizes


def test_a_prefix_that_several_bring_at_once_is_computed_once() -> None:
    table = Table(FakeBackend(n_batch=16))
    prefix = "abcdefghijklmnop" * 2
    for name in "wxyz":
        table.ask(name, prefix + name * 3, 2)
    table.finish()
    assert table.backend.computed == 32 + 4 * 3 + 4 * 1
    assert [len(t) for t in table.generated.values()] == [2, 2, 2, 2]


def test_a_prompt_is_shared_to_its_end_where_its_last_token_has_a_step_of_its_own() -> None:
    table = Table(FakeBackend(n_batch=8))
    table.ask("a", "abcdefghi", 8)
    table.step()
    assert sizes(table.step()) == [("a", 1)]
    assert table.scheduler.cache.match(row(b"abcdefghi")) == 9


def test_runs_are_plain_where_nobody_computes_a_token_of_a_prompt() -> None:
    table = Table()
    table.ask("a", "abcdefghi", 8)
    assert table.step().n_plain == 0
    assert table.step().n_plain == 1
    table.ask("b", "abcdefghi", 8)
    plan = table.step()
    assert (sizes(plan), plan.n_plain) == ([("a", 1), ("b", 1)], 0)
    assert table.step().n_plain == 2
    table.ask("c", "xyz", 8)
    plan = table.step()
    assert (sizes(plan), plan.n_plain) == ([("a", 1), ("b", 1), ("c", 3)], 2)


def test_n_equal_prompts_are_computed_once_but_for_their_last_token() -> None:
    table = Table()
    for name in "wxyz":
        table.ask(name, "p" * 40, 1)
    table.finish()
    assert table.backend.computed == 40 + 3


def test_a_short_common_prefix_is_not_waited_for() -> None:
    table = Table()
    table.ask("a", "p" * (LEAST_COMMON - 1) + "a")
    table.ask("b", "p" * (LEAST_COMMON - 1) + "b")
    table.step()
    assert table.running == ["a", "b"]


def test_who_waits_for_a_prefix_does_not_hold_up_others() -> None:
    table = Table(FakeBackend(n_batch=8))
    table.ask("a", "p" * 30)
    table.ask("b", "p" * 30)
    table.ask("c", "other")
    table.step()
    assert (table.running, table.waiting) == (["a", "c"], ["b"])


def test_who_waits_for_a_prefix_runs_when_the_one_that_computes_it_is_gone_or_paused() -> None:
    for paused in (True, False):
        table = Table(FakeBackend(n_batch=8))
        a = table.ask("a", "p" * 40)
        table.ask("b", "p" * 30 + "b")
        table.step()
        table.step()
        assert (table.running, table.waiting) == (["a"], ["b"])
        if not paused:
            table.scheduler.end(a)
        table.step(blocked={"a"} if paused else set())
        assert "b" in table.running


def test_who_waits_for_a_prefix_runs_when_somebody_else_has_computed_it() -> None:
    """The prefill that was waited for is slow, and a third one has what is common sooner."""
    table = Table(FakeBackend(n_batch=8, n_cells=512, n_ctx_slot=128))
    prefix = "abcdefghijklmnopqrstuvwxyzabcdefghijklmn"
    a = table.ask("a", prefix + "a" * 20)
    table.ask("b", prefix + "b")
    table.step()
    table.step(blocked={"a"})
    assert table.running == ["a", "b"]
    b = table.scheduler.find("b")
    c = table.ask("c", prefix + "c" * 20)
    table.step()
    assert table.waiting == ["c"]
    assert c.awaited in (a, b)
    while c.seq is None:
        table.step(blocked={"a"})
    assert c.awaited is None
    assert c.n_cached >= 24
    table.finish()
    assert table.generated["c"] == continuation(list((prefix + "c" * 20).encode()), 8)


def test_nobody_waits_for_what_a_full_context_has_lost() -> None:
    """It begins again, with other tokens than it was waited for, and is again where it was waited for."""
    table = Table(FakeBackend(n_batch=8, n_slots=2, n_ctx_slot=64))
    a = table.ask("a", "abcdefghij" + "k" * 30, 100)
    w = table.ask("w", "abcdefghij" + "k" * 30 + "w")
    y = table.ask("y", "abcdefghij" + "y", 100)  # shares a's cells, so that they cannot be moved
    while not a.truncated:
        table.step()
        assert (table.running, table.waiting) == (["a", "y"], ["w"])
    assert a.n_past <= w.awaited_to, "it is beyond where it was waited for"
    table.scheduler.end(y)
    table.step()
    assert table.running == ["a", "w"]


def test_cached_prompts_are_reused_but_not_where_the_request_forbids_it() -> None:
    table = Table()
    table.ask("a", "p" * 30, 1)
    table.finish()
    assert table.ask("b", "p" * 30 + "b", 1).n_cached == 0, "not known before admission"
    again = table.scheduler.find("b")
    assert again is not None
    table.finish()
    assert again.n_cached == 30
    before = table.backend.computed
    private = table.ask("c", "p" * 30 + "c", 1, cache_prompt=False)
    table.finish()
    assert private.n_cached == 0
    assert table.backend.computed == before + 31
    assert table.scheduler.cache.match(row(b"p" * 30 + b"c")) == 30, "it leaves nothing behind"


def test_what_was_generated_is_cached_too() -> None:
    table = Table()
    first = table.ask("a", "hello", 6)
    table.finish()
    follow_up = "hello" + bytes(first.tokens[5:].tolist()).decode() + " and"
    second = table.ask("b", follow_up, 1)
    table.finish()
    assert second.n_cached == 10, "all but the last token, which was never computed"


def test_a_prefix_that_a_running_request_holds_needs_no_room_of_its_own() -> None:
    table = Table(FakeBackend(n_cells=64, n_ctx_slot=64))
    table.ask("a", "p" * 40, 8)
    table.step()
    table.ask("b", "p" * 40 + "b", 8)
    table.step()
    assert table.running == ["a", "b"], "23 cells are free and 1 is needed"
