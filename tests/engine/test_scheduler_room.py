"""What the scheduler does when the KV cache or a slot's context is full."""

import pytest

from engine.text.sequence import Status
from engine.text.tokens import row
from tests.engine.driver import reference
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.table import Table, sizes


def small(n_cells: int, n_slots: int = 2, **fields: object) -> FakeBackend:
    """Every slot may use all cells."""
    return FakeBackend(n_cells=n_cells, n_ctx_slot=n_cells, n_slots=n_slots, **fields)


# --- a full cache ---


def test_what_is_idle_goes_before_anybody_is_preempted() -> None:
    table = Table(small(24))
    table.ask("gone", "g" * 10, 1)
    table.finish()
    table.ask("a", "a" * 10, 12)
    assert not table.finish()
    assert table.scheduler.cache.match(row(b"g" * 10)) < 10


def test_a_prompt_gets_all_the_idle_cells_that_its_step_can_use() -> None:
    table = Table(small(24))
    table.ask("gone", "g" * 20, 1)
    table.finish()
    table.ask("a", "a" * 16, 1)
    assert sizes(table.step()) == [("a", 16)]


def test_the_youngest_is_preempted_and_goes_on_later_as_if_nothing_had_been() -> None:
    table = Table(small(30, n_slots=3))
    for name in "abc":
        table.ask(name, name * 6, 12)
    order = table.finish()
    assert order[0] == "c"
    assert "a" not in order
    for name in "abc":
        assert table.generated[name] == continuation([ord(name)] * 6, 12)


def test_the_preempted_one_is_first_in_the_queue() -> None:
    table = Table(small(24))
    table.ask("a", "a" * 8, 14)
    table.ask("b", "b" * 8, 14)
    table.ask("c", "c" * 8, 14)
    table.until_preempted()
    assert table.running == ["a"]
    assert table.waiting == ["b", "c"]


def test_the_preempted_one_finds_its_tokens_in_the_cache() -> None:
    table = Table(small(24))
    a = table.ask("a", "a" * 10, 7)
    b = table.ask("b", "b" * 8, 6)
    table.until_preempted()
    assert b.status is Status.WAITING
    before = table.backend.computed
    table.until(lambda: a.status is Status.ENDED)
    rest_of_a = table.backend.computed - before
    table.finish()
    assert table.backend.computed - before - rest_of_a < len(b.request.prompt), "computed from the start again"
    assert table.generated["b"] == continuation([98] * 8, 6)


def test_the_youngest_is_who_arrived_last_not_who_was_admitted_last() -> None:
    table = Table(small(30))
    table.ask("a", "a" * 4, 1, slot=0)
    table.ask("b", "b" * 10, 12, slot=0)
    table.ask("c", "c" * 10, 12, slot=1)
    table.until_preempted()
    assert table.running == ["b"]
    table.finish()
    for name in "bc":
        assert table.generated[name] == continuation([ord(name)] * 10, 12)


def test_a_younger_prefill_that_gives_way_lets_the_older_one_run_in_the_same_step() -> None:
    """The younger one is first in the batch: it must not take the older one's turn with it when it goes."""
    table = Table(small(32, n_batch=4))
    table.ask("cached", "o" * 20, 1, slot=0)
    table.finish()
    table.ask("busy", "zz", 2, slot=0)
    table.ask("old", "o" * 20 + "xxx", 2, slot=0)
    table.ask("young", "y" * 20, 2, slot=1)
    while table.busy:
        assert table.step().runs, "nothing runs although somebody could: the loop would wait for a command"
    assert table.generated["old"] == continuation([111] * 20 + [120] * 3, 2)
    assert table.generated["young"] == continuation([121] * 20, 2)


@pytest.mark.parametrize("n_cells", [36, 37, 38])
def test_who_gives_way_takes_no_step_from_those_who_were_admitted_later(n_cells: int) -> None:
    table = Table(small(n_cells, 3))
    for name, slot in (("first", 0), ("second", 1)):
        table.ask(name, name[0] * 4, 2, slot=slot)
    for name, slot in (("x", 0), ("y", 1)):
        table.ask(name, name * 4, 20, slot=slot)
    table.ask("young", "z" * 4, 20, slot=2)
    table.until(lambda: table.running == ["young", "x", "y"])
    while not (plan := table.step()).preempted:
        pass
    assert [s.request.id for s in plan.preempted] == ["young"]
    assert sizes(plan) == [("x", 1), ("y", 1)]


def test_no_room_gives_up_what_is_idle_then_the_youngest_then_the_last() -> None:
    table = Table()
    table.ask("gone", "g" * 10, 1)
    table.finish()
    a, b = table.ask("a", "a" * 8), table.ask("b", "b" * 8)
    table.step()
    assert table.scheduler.no_room([a, b]) is None
    assert table.scheduler.cache.match(row(b"g" * 10)) == 0
    assert table.running == ["a", "b"]
    assert table.scheduler.no_room([a, b]) is None
    assert (table.running, table.waiting) == (["a"], ["b"])
    table.scheduler.cache.clear()
    assert table.scheduler.no_room([a]) is a


def test_who_gave_way_and_finds_all_its_tokens_again_decodes_with_its_new_id() -> None:
    table = Table()
    a, b = table.ask("a", "a" * 8), table.ask("b", "b" * 8)
    table.step()
    table.step()
    before, generated = b.seq, len(table.generated["b"])
    assert table.scheduler.no_room([a, b]) is None
    assert table.waiting == ["b"]
    table.scheduler.end(a)
    assert sizes(table.step()) == [("b", 1)]
    assert b.seq != before
    assert len(table.generated["b"]) == generated + 1
    table.finish()
    assert table.generated["b"] == continuation(list(b"b" * 8), 8)


# --- a full context ---


def test_a_shift_keeps_the_first_and_drops_half_of_the_rest() -> None:
    table = Table(small(20, n_slots=1))
    a = table.ask("a", "abcdefgh", 16, n_keep=4)
    table.until(lambda: a.truncated)
    # 20 tokens are in the cache and one is pending; 4 stay, 8 of 16 go; the step computed one and sampled one.
    full = list(b"abcdefgh") + table.generated["a"]
    assert a.tokens.tolist() == full[:4] + full[12:]
    assert a.shifted, "the cells moved, nothing was computed again"
    table.finish()
    assert table.generated["a"] == reference(a.request, table.limits).tokens
    assert table.backend.computed == 8 + 15


def test_a_shift_drops_as_much_as_asked_for_and_never_what_is_always_kept() -> None:
    table = Table(small(20, n_slots=1), n_keep_always=1)
    a = table.ask("a", "abcdefgh", 40, n_discard=3)
    table.until(lambda: a.truncated)
    full = list(b"abcdefgh") + table.generated["a"]
    assert a.tokens.tolist() == full[:1] + full[4:]
    table.finish()
    assert table.generated["a"] == reference(a.request, table.limits).tokens


def test_a_shift_may_keep_the_whole_prompt() -> None:
    table = Table(small(20, n_slots=1))
    a = table.ask("a", "abcdefgh", 60, n_keep=-1, n_discard=100)
    table.finish()
    assert a.tokens[:8] == row(b"abcdefgh")
    assert table.generated["a"] == reference(a.request, table.limits).tokens


def test_shared_cells_do_not_move_under_somebody_else() -> None:
    table = Table(FakeBackend(n_cells=60, n_ctx_slot=24, n_slots=2))
    prompt = "abcdefghijklmnopqrst"
    a = table.ask("a", prompt, 20)
    table.step()
    b = table.ask("b", prompt, 3)
    table.until(lambda: a.truncated, blocked={"b"})
    assert not a.shifted, "computed again, because b shares the prompt's cells"
    table.finish()
    for sequence in (a, b):
        assert table.generated[sequence.request.id] == reference(sequence.request, table.limits).tokens


def test_the_cells_of_ended_requests_do_not_hinder_a_shift() -> None:
    table = Table(FakeBackend(n_cells=60, n_ctx_slot=24, n_slots=2))
    table.ask("gone", "abcdefghijklmnop" + "x", 1)
    table.finish()
    a = table.ask("a", "abcdefghijklmnop" + "y", 20)
    table.until(lambda: a.truncated)
    assert a.shifted
    table.finish()
    assert table.generated["a"] == reference(a.request, table.limits).tokens


def test_shifted_cells_are_no_prefix_for_anybody() -> None:
    table = Table(small(20, n_slots=1))
    a = table.ask("a", "abcdefgh", 30, n_keep=2)
    table.finish()
    assert a.truncated
    assert table.scheduler.cache.match(a.tokens) <= 2, "behind what was kept the cells saw another context"


def test_a_full_context_ends_the_request_where_it_may_not_shift() -> None:
    table = Table(small(20, n_slots=1))
    a = table.ask("a", "abcdefgh", 60, until_context_full=True)
    table.finish()
    assert len(table.generated["a"]) == 20 - 8 + 1
    assert len(a.tokens) == 21
    fixed = Table(small(20, n_slots=1, can_shift=False))
    fixed.ask("a", "abcdefgh", 60)
    fixed.finish()
    assert fixed.generated == table.generated


def test_a_full_sequence_that_is_preempted_is_shifted_when_it_comes_back() -> None:
    """Its client does not read while it has filled its slot, and an older request needs its cells."""
    table = Table(small(32))
    old, full = table.ask("old", "abcdef", 10), table.ask("full", "abcdef", 40)
    table.step()
    table.until(lambda: full.n_past == 32, blocked={"old"})
    assert full.n_pending == 1
    table.until(lambda: full.status is Status.WAITING, blocked={"full"})
    table.finish()
    for sequence in (old, full):
        assert table.generated[sequence.request.id] == reference(sequence.request, table.limits).tokens


# --- an aborted step ---


def test_an_aborted_step_is_taken_back_where_the_last_token_was_computed() -> None:
    table = Table()
    a = table.ask("a", "abcdef", 3)
    (planned,) = table.scheduler.plan(0.0, 64).runs
    table.backend.decode([planned.run])
    table.scheduler.computed(a, 6)
    table.scheduler.step_back(a)
    table.scheduler.check_integrity()
    assert a.n_pending == 1
    assert sizes(table.step()) == [("a", 1)]
    table.finish()
    assert table.generated["a"] == continuation(list(b"abcdef"), 3)


def test_an_aborted_step_is_taken_back_without_harm_to_those_who_share_its_last_token() -> None:
    table = Table()
    a, b = table.ask("a", "abcdef", 3), table.ask("b", "abcdef", 3)
    planned = table.scheduler.plan(0.0, 64).runs
    assert sizes(table.scheduler.plan(0.0, 64)) == [("a", 6), ("b", 6)]
    table.backend.decode([p.run for p in planned])
    for sequence in (a, b):
        table.scheduler.computed(sequence, 6)
    for sequence in (a, b):
        table.scheduler.step_back(sequence)
        table.scheduler.check_integrity()
    table.finish()
    assert table.generated["a"] == table.generated["b"] == continuation(list(b"abcdef"), 3)


def test_an_aborted_step_may_leave_another_id_to_who_goes_on_decoding() -> None:
    table = Table(FakeBackend(n_slots=3))
    gone = table.ask("gone", "xyz")
    table.ask("a", "abcdef", 9)
    table.step()
    b = table.ask("b", "abcdef", 3)
    (planned,) = [p for p in table.scheduler.plan(0.0, 64, {"a", "gone"}).runs if p.sequence is b]
    assert planned.run.tokens == row(b"f")
    table.backend.decode([planned.run])
    table.scheduler.computed(b, 1)
    before = b.seq
    table.scheduler.end(gone)
    table.scheduler.cache.clear()
    table.scheduler.step_back(b)
    assert b.seq != before
    table.scheduler.check_integrity()
    table.finish()
    assert table.generated["b"] == continuation(list(b"abcdef"), 3)


def test_a_mixed_batch_is_filled_to_whole_tiles() -> None:
    """One row more than a tile costs as much as a whole further tile: it is used."""
    table = Table(FakeBackend(n_batch=64), tile=16)
    table.ask("stream", "s", 8)
    table.step()
    table.ask("long", "x" * 60, 4)
    assert sizes(table.step(prefill_limit=16)) == [("stream", 1), ("long", 31)]
    assert sizes(table.step(prefill_limit=15)) == [("stream", 1), ("long", 15)]


def test_a_deep_prompt_fills_larger_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where much is attended to, more rows at a time are cheaper: from ``DEEP`` computed tokens on."""
    monkeypatch.setattr("engine.text.scheduler.DEEP", 30)
    table = Table(FakeBackend(n_batch=96, n_cells=256, n_ctx_slot=256), tile=16, deep_tile=64)
    table.ask("stream", "s", 8)
    table.step()
    table.ask("long", "x" * 150, 4)
    assert sizes(table.step(prefill_limit=15)) == [("stream", 1), ("long", 15)]
    assert sizes(table.step(prefill_limit=15)) == [("stream", 1), ("long", 15)]
    assert sizes(table.step(prefill_limit=15)) == [("stream", 1), ("long", 63)]
    assert sizes(table.step(prefill_limit=15)) == [("stream", 1), ("long", 57)]


def test_in_streams_the_prompts_part_alone_fills_tiles() -> None:
    table = Table(FakeBackend(n_batch=64, kv_unified=False), tile=16)
    table.ask("stream", "s", 8)
    table.step()
    table.ask("long", "x" * 60, 4)
    assert sizes(table.step(prefill_limit=16)) == [("stream", 1), ("long", 16)]
    assert sizes(table.step(prefill_limit=17)) == [("stream", 1), ("long", 32)]


def test_idle_prefixes_are_given_up_once_they_have_cost_more_than_they_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.text.scheduler.IDLE_AGE", 20)
    table = Table(FakeBackend(n_cells=128))
    table.ask("old", "o" * 10, 1)
    table.finish()
    table.ask("busy", "b" * 5, 30)
    while table.scheduler.cache.clock < 10 + 20:
        table.step()
        assert table.scheduler.cache.match(row(b"o" * 10)) == 10
    table.step()
    table.step()
    assert table.scheduler.cache.match(row(b"o" * 10)) == 0
    assert table.running == ["busy"]
    assert table.scheduler.cache.match(row(b"b" * 5)) == 5, "what is in use never expires"
