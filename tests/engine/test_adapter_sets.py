"""Sequences with different sets of adapters: one set a step, in turns, and nothing in common."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest, NativeError
from engine.text.adapters import AdapterSet, adapter_set
from tests.engine.driver import Driver
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.table import Table, sizes

A: AdapterSet = ((0, 1.0),)
B: AdapterSet = ((0, 0.5), (2, 1.0))


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([], ()),
        ([(2, 1.0), (0, 0.5)], ((0, 0.5), (2, 1.0))),
        ([(0, 0.0), (1, 1.0)], ((1, 1.0),)),
        ([(0, -0.0)], ()),
        ([(0, 1e-60)], ()),  # nothing is left of it in 32 bits
    ],
)
def test_equal_sets_are_written_in_one_way(scales: list[tuple[int, float]], expected: AdapterSet) -> None:
    assert adapter_set(scales) == expected


def test_scales_are_what_the_library_holds() -> None:
    assert adapter_set([(0, 0.1)]) == adapter_set([(0, 0.1 + 1e-12)])
    assert adapter_set([(0, 0.1)]) != adapter_set([(0, 0.1 + 1e-6)])


def test_an_adapter_that_does_not_exist_is_refused() -> None:
    table = Table(FakeBackend(n_adapters=2))
    for adapter in (2, -1):
        with pytest.raises(InvalidRequest, match="2 adapters") as caught:
            table.ask("a", "abc", adapters=((adapter, 1.0),))
        assert caught.value.param == "lora"


def test_sets_take_turns_and_all_streams_of_a_set_go_together() -> None:
    table = Table()
    table.ask("a", "aaa", adapters=A)
    table.ask("b", "bbb", adapters=B)
    table.ask("c", "ccc", adapters=A)
    plans = [table.step() for _ in range(6)]
    assert [plan.adapters for plan in plans] == [A, B, A, B, A, B]
    assert [[name for name, _ in sizes(plan)] for plan in plans] == [["a", "c"], ["b"]] * 3


def test_a_set_without_due_work_is_passed_over() -> None:
    table = Table()
    table.ask("a", "aaa", adapters=A)
    table.ask("b", "bbb", adapters=B)
    table.step()
    table.step()
    assert [table.step(blocked={"a"}).adapters for _ in range(3)] == [B, B, B]
    assert table.step().adapters == A, "it has waited longest"


def test_a_paced_stream_wakes_the_loop_when_it_is_due_whatever_its_set() -> None:
    table = Table()
    table.ask("a", "aaa", adapters=A, tokens_per_second=0.25)
    table.ask("b", "bbb", 1, adapters=B)
    table.step()
    table.step()
    plan = table.step()
    assert not plan.runs
    assert plan.wake_at == 4.0


def test_the_prefill_limit_holds_while_a_stream_of_another_set_waits() -> None:
    table = Table(FakeBackend(n_batch=16))
    table.ask("a", "aaa", adapters=A)
    table.step()
    table.ask("b", "b" * 40, adapters=B)
    assert sizes(table.step(prefill_limit=3)) == [("a", 1)]
    assert sizes(table.step(prefill_limit=3)) == [("b", 3)]
    assert sizes(table.step(prefill_limit=3)) == [("a", 1)]
    assert sizes(table.step(prefill_limit=3, blocked={"a"})) == [("b", 16)]


def test_nothing_is_shared_between_sets() -> None:
    table = Table()
    prompt = "p" * 40
    table.ask("a", prompt, 2, adapters=A)
    table.finish()
    b = table.ask("b", prompt, 2, adapters=B)
    again = table.ask("again", prompt, 2, adapters=A)
    table.finish()
    assert (b.n_cached, again.n_cached) == (0, 39)
    assert table.generated["b"] == continuation(prompt.encode(), 2, B)
    assert table.generated["again"] == continuation(prompt.encode(), 2, A)


def test_a_prompt_does_not_wait_for_the_same_one_with_another_set() -> None:
    table = Table(FakeBackend(n_batch=16))
    table.ask("a", "p" * 40, adapters=A)
    table.ask("b", "p" * 40, adapters=B)
    table.ask("c", "p" * 40, adapters=A)
    table.step()
    assert (table.running, table.waiting) == (["a", "b"], ["c"])


@settings(max_examples=40)
@given(
    n_sets=st.integers(2, 4),
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=12),
    prefill_limit=st.sampled_from([1, 4, 64]),
)
def test_no_flood_of_new_sets_starves_a_stream(n_sets: int, lengths: list[int], prefill_limit: int) -> None:
    """Short requests, each with a set of its own, keep the other slots busy for ever."""
    table = Table(FakeBackend(n_slots=n_sets, n_cells=512, n_ctx_slot=128))
    table.ask("long", "l", 100, adapters=A)
    numbers = count(1)
    waited = 0
    for step in range(60):
        while len(table.running) + len(table.waiting) < n_sets:
            number = next(numbers)
            table.ask(f"{number}", f"{number}", lengths[number % len(lengths)], adapters=((1, float(number)),))
        before = len(table.generated["long"])
        table.step(prefill_limit=prefill_limit)
        waited = 0 if len(table.generated["long"]) > before else waited + 1
        assert waited < n_sets, f"the stream waits for more than one step of each other set (step {step})"


def test_the_backend_is_told_when_the_set_changes_and_only_then() -> None:
    driver = Driver()
    driver.ask("plain", "plain", 3)
    driver.finish()
    assert driver.backend.n_switches == 0
    boxes = {name: driver.ask(name, "prompt", 4, adapters=used) for name, used in (("a", A), ("b", B), ("c", A))}
    driver.finish()
    assert driver.backend.n_switches == 8, "A and B, four tokens each"
    for name, used in (("a", A), ("b", B), ("c", A)):
        assert boxes[name].tokens == continuation(b"prompt", 4, used)
    driver.check_idle()


def test_a_stream_that_is_cancelled_leaves_the_turns_of_the_others_alone() -> None:
    driver = Driver()
    a, b = driver.ask("a", "aaaa", 8, adapters=A), driver.ask("b", "bbbb", 8, adapters=B)
    driver.steps(3)
    driver.cancel("a")
    driver.finish()
    assert not a.terminals
    assert b.tokens == continuation(b"bbbb", 8, B)
    driver.check_idle()


def test_after_a_set_that_cannot_be_applied_nothing_is_assumed() -> None:
    driver = Driver()
    set_adapters = driver.backend.set_adapters

    def fail_half_way(adapters: AdapterSet) -> None:
        set_adapters(adapters)
        if adapters == B:
            raise NativeError("the adapters cannot be applied")

    driver.backend.set_adapters = fail_half_way  # type: ignore[method-assign]
    failing, plain = driver.ask("b", "bbbb", 4, adapters=B), driver.ask("plain", "pppp", 4)
    driver.finish()
    assert str(failing.failed().error) == "the adapters cannot be applied"
    assert plain.tokens == continuation(b"pppp", 4)
    driver.check_idle()
