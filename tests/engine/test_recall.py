"""Prompts that leave the KV cache and come back from host memory, through the loop, on the fake backend."""

from collections import deque
from unittest import mock

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text.adapters import AdapterSet
from engine.text.commands import EraseSlot
from engine.text.tokens import row
from tests.engine.driver import Box
from tests.engine.fake_backend import continuation
from tests.engine.fake_cells import FakeCells
from tests.engine.recalling import MEGABYTE, PROMPT, A, crowd_out, left_by, run, slow, small
from tests.engine.test_media import chunk, expected, request


@pytest.mark.parametrize("adapters", [(), A])
def test_a_conversation_that_others_displaced_goes_on_without_computing_it_again(adapters: AdapterSet) -> None:
    driver = small()
    run(driver, "first", PROMPT, adapters=adapters)
    crowd_out(driver)
    assert driver.scheduler.cache.match(row(PROMPT.encode()), adapters) < len(PROMPT)
    before = driver.backend.computed
    box = run(driver, "second", left_by(PROMPT, adapters=adapters) + " there", adapters=adapters)
    timings = box.finished().timings
    assert timings.cache_n == len(left_by(PROMPT, adapters=adapters))
    assert timings.prompt_n == len(" there")
    assert driver.backend.computed - before == len(" there") + 3
    driver.check_idle()
    stats = driver.loop.stats
    assert stats.host_restored_total > 0
    assert stats.host_saved_total >= stats.host_restored_total
    assert stats.prompt_cached_tokens_total == timings.cache_n
    assert stats.host_bytes == driver.host.cache.n_bytes > 0
    assert stats.host_tokens == driver.host.cache.n_tokens > 0
    assert stats.host_lost_total == 0


def test_another_set_of_adapters_gets_nothing_of_it() -> None:
    driver = small()
    run(driver, "first", PROMPT, adapters=A)
    crowd_out(driver)
    box = run(driver, "second", left_by(PROMPT, adapters=A) + "!")
    assert box.finished().timings.cache_n == 0


def test_without_host_memory_it_is_computed_again() -> None:
    driver = small(0)
    run(driver, "first", PROMPT)
    crowd_out(driver)
    box = run(driver, "second", left_by(PROMPT) + "!")
    assert box.finished().timings.cache_n == 0


def test_a_prompt_that_differs_in_the_middle_comes_back_up_to_there() -> None:
    driver = small()
    run(driver, "first", PROMPT)
    crowd_out(driver)
    box = run(driver, "second", PROMPT[:19] + "-" + PROMPT[20:])
    assert box.finished().timings.cache_n == 19
    driver.check_idle()


def test_all_but_the_last_token_comes_back() -> None:
    driver = small()
    run(driver, "first", PROMPT)
    crowd_out(driver)
    assert run(driver, "second", PROMPT).finished().timings.cache_n == len(PROMPT) - 1


def test_who_may_not_use_the_cache_uses_none() -> None:
    driver = small()
    run(driver, "first", PROMPT, cache_prompt=False)
    crowd_out(driver)
    run(driver, "second", PROMPT)
    crowd_out(driver)
    box = run(driver, "third", PROMPT, cache_prompt=False)
    assert box.finished().timings.cache_n == 0


def test_images_come_back_with_their_text() -> None:
    driver = small()
    image = chunk("x", 11, 15)
    first = request("first", "look: ", image, " what is it?")
    box = driver.submit(first)
    driver.finish()
    assert box.tokens == expected(first)
    crowd_out(driver)
    again = request("again", "look: ", image, " what is that?")
    encoded, box = driver.backend.n_encoded, driver.submit(again)
    driver.finish()
    assert box.tokens == expected(again)
    assert box.finished().timings.cache_n == len("look: ") + 15 + len(" what is ")
    assert driver.backend.n_encoded == encoded
    other = request("other", "look: ", chunk("y", 11, 15), " what is that?")
    box = driver.submit(other)
    driver.finish()
    assert box.tokens == expected(other)
    assert box.finished().timings.cache_n <= len("look: ")
    driver.check_idle()


def test_a_preempted_request_comes_back_too_and_counts_only_what_it_found_at_first() -> None:
    driver = small()
    boxes = {name: driver.ask(name, name * 20, 24) for name in "ab"}
    driver.finish()
    assert driver.loop.stats.preemptions_total
    assert driver.host.figures.restored
    for name, box in boxes.items():
        assert box.tokens == continuation(name.encode() * 20, 24)
        assert box.finished().timings.cache_n == 0
    driver.check_idle()


def test_what_was_erased_is_gone() -> None:
    driver = small()
    run(driver, "first", PROMPT, slot=0)
    crowd_out(driver)
    run(driver, "second", PROMPT, slot=0)
    assert driver.host.cache.reach(row(PROMPT.encode()), 0) >= len(PROMPT) - 1
    driver.loop.commands.put(EraseSlot("erase", 0, Box()))
    driver.step()
    assert driver.host.cache.reach(row(PROMPT.encode()), 0) == 0
    crowd_out(driver)
    assert run(driver, "third", PROMPT).finished().timings.cache_n == 0


def test_ids_that_run_out_displace_prompts_too() -> None:
    driver = small(n_seqs=3)
    for name in "abcdef":
        run(driver, name, name * 5)
    again = run(driver, "again", "aaaaa!")
    assert again.finished().timings.cache_n == 5
    driver.check_idle()


@pytest.mark.parametrize("what", ["save", "restore"])
def test_a_copy_that_fails_costs_nothing_but_time(what: str, caplog: pytest.LogCaptureFixture) -> None:
    driver = small()
    cells = driver.host._cells
    assert isinstance(cells, FakeCells)
    run(driver, "first", PROMPT)
    if what == "save":
        cells.failing.add("save")
    crowd_out(driver)
    cells.failing.add(what)
    assert run(driver, "second", PROMPT).finished().timings.cache_n == 0
    assert "kept in memory" in caplog.text if what == "save" else "brought back" in caplog.text
    driver.check_idle()


# --- random conversations ---


@attrs.frozen(kw_only=True)
class Visit:
    """Somebody goes on with conversation ``who``, or begins it again; ``wait``: steps before the next visit."""

    who: int
    words: int
    answer: int
    again: bool
    wait: int
    cancel: bool


visits = st.builds(
    Visit,
    who=st.integers(0, 5),
    words=st.integers(1, 9),
    answer=st.integers(1, 9),
    again=st.sampled_from([False, False, False, True]),
    wait=st.integers(0, 12),
    cancel=st.sampled_from([False] * 5 + [True]),
)


@settings(max_examples=200)
@given(
    plan=st.lists(visits, min_size=5, max_size=30),
    n_cells=st.sampled_from([64, 80, 120]),
    n_seqs=st.sampled_from([0, 3, 4, 0, 9]),
    host_bytes=st.sampled_from([1500, 6000, 20_000, MEGABYTE]),
    failing=st.sampled_from([set(), set(), {"save"}, {"restore"}]),
    cost=st.sampled_from([0.0, 0.0, 0.03]),
    age=st.sampled_from([0, 5, 20, 256]),
)
def test_conversations_that_come_and_go_are_what_each_would_be_alone(
    plan: list[Visit], n_cells: int, n_seqs: int, host_bytes: int, failing: set[str], cost: float, age: int
) -> None:
    with mock.patch("engine.text.recall.MOVE_AGE", age):
        come_and_go(plan, n_cells, n_seqs, host_bytes, failing, cost)


def come_and_go(plan: list[Visit], n_cells: int, n_seqs: int, host_bytes: int, failing: set[str], cost: float) -> None:
    """``n_seqs`` 0: each slot has a stream of cells."""
    driver = small(host_bytes, n_slots=3, n_cells=n_cells, n_seqs=n_seqs, n_batch=8, kv_unified=n_seqs > 0)
    slow(driver, cost)
    driver.host._cells.failing |= failing
    texts = ["tell me more, " * (1 + who % 2) + chr(65 + who) for who in range(6)]
    asked: deque[tuple[str, str, int, bool]] = deque()
    for number, visit in enumerate(plan):
        text = texts[visit.who]
        if visit.again or len(text) > 45:
            text = text[:12]
        text += "abc "[number % 4] * visit.words
        name = str(number)
        driver.ask(name, text, visit.answer, adapters=A if visit.who == 3 else ())
        asked.append((name, text, visit.answer, visit.cancel))
        adapters = A if visit.who == 3 else ()
        texts[visit.who] = text + bytes(continuation(text.encode(), visit.answer, adapters)).decode()
        for _ in range(visit.wait):
            if driver.busy:
                driver.step()
        if visit.cancel:
            driver.cancel(name)
    driver.finish()
    for (name, text, answer, cancelled), visit in zip(asked, plan, strict=True):
        right = continuation(text.encode(), answer, A if visit.who == 3 else ())
        box = driver.boxes[name]
        assert box.tokens == right[: len(box.tokens)]
        if not cancelled:
            timings = box.finished().timings
            assert box.tokens == right
            assert timings.cache_n + timings.prompt_n == len(text)
    driver.check_idle()
    assert driver.host.cache.n_bytes <= host_bytes
    driver.scheduler.cache.clear()
    assert not driver.backend.kv.cells, "cells that nobody will ever free"
