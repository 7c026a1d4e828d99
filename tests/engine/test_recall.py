"""Prompts that leave the KV cache and come back from host memory, through the loop, on the fake backend."""

from collections import deque
from typing import Final
from unittest import mock

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text.adapters import AdapterSet
from engine.text.cell_rent import CellRent
from engine.text.commands import EraseSlot
from engine.text.events import PrefillProgress
from engine.text.recall import budget
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.fake_cells import FakeCells
from tests.engine.test_media import chunk, expected, request

A: Final[AdapterSet] = ((1, 0.5),)
PROMPT: Final = "once upon a time in a far away land"
MEGABYTE: Final = 1 << 20


def small(host_bytes: int = MEGABYTE, n_slots: int = 2, rent: CellRent | None = None, **fields: object) -> Driver:
    backend = FakeBackend(**{"n_cells": 64, "n_ctx_slot": 64, "n_slots": n_slots, "n_batch": 16} | fields)
    driver = Driver(backend, host_bytes=host_bytes, rent=rent)
    slow(driver, 0.0)
    return driver


def slow(driver: Driver, seconds: float) -> None:
    """Let a copy take so long, and a decode 0.1 s for each token."""
    if driver.host is not None:
        cells = driver.host._cells
        assert isinstance(cells, FakeCells)
        cells.before_copy = lambda: driver.clock.on(seconds)
    driver.backend.before_decode = lambda runs: driver.clock.on(0.1 * sum(len(run.tokens) for run in runs))


def run(driver: Driver, name: str, prompt: str, max_tokens: int = 4, **fields: object) -> Box:
    box = driver.ask(name, prompt, max_tokens, **fields)
    driver.finish()
    adapters = fields.get("adapters", ())
    assert isinstance(adapters, tuple)
    assert box.tokens == continuation(prompt.encode(), max_tokens, adapters)
    return box


def crowd_out(driver: Driver, letter: str = "z") -> None:
    """Fill the KV cache with something else."""
    run(driver, f"crowd-{letter}-{len(driver.boxes)}", letter * 60, 5)


def left_by(prompt: str, max_tokens: int = 4, adapters: AdapterSet = ()) -> str:
    """What a conversation consists of that the KV cache held: the last token was never computed."""
    return prompt + bytes(continuation(prompt.encode(), max_tokens - 1, adapters)).decode()


@pytest.mark.parametrize("adapters", [(), A])
def test_a_conversation_that_others_displaced_goes_on_without_computing_it_again(adapters: AdapterSet) -> None:
    driver = small()
    run(driver, "first", PROMPT, adapters=adapters)
    crowd_out(driver)
    assert driver.scheduler.cache.match(list(PROMPT.encode()), adapters) < len(PROMPT)
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
    assert driver.host.cache.reach(list(PROMPT.encode()), 0) >= len(PROMPT) - 1
    driver.loop.commands.put(EraseSlot("erase", 0, Box()))
    driver.step()
    assert driver.host.cache.reach(list(PROMPT.encode()), 0) == 0
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


# --- idle prompts move ---


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle prompts move after 10 tokens of others."""
    monkeypatch.setattr("engine.text.recall.MOVE_AGE", 10)


@pytest.mark.usefixtures("hasty")
def test_a_prompt_that_nobody_asks_for_makes_room_before_anybody_needs_it() -> None:
    driver = small(n_cells=512)
    run(driver, "first", PROMPT)
    run(driver, "busy", "b", 30)
    assert driver.scheduler.cache.match(list(PROMPT.encode())) == 0
    assert driver.scheduler.cache.cells <= 30, "only the other prompt's cells are in use"
    assert run(driver, "second", left_by(PROMPT) + "!").finished().timings.cache_n == len(left_by(PROMPT))
    assert driver.host.figures.lost == 0
    driver.check_idle()


@pytest.mark.usefixtures("hasty")
def test_it_stays_where_it_is_while_host_memory_is_half_full() -> None:
    driver = small(n_cells=512)
    run(driver, "first", PROMPT)
    run(driver, "busy", "b", 30)
    assert driver.host.cache.n_bytes
    driver.host.cache.limit = 2 * driver.host.cache.n_bytes - 1
    run(driver, "second", PROMPT.upper())
    run(driver, "busier", "c", 30)
    assert driver.scheduler.cache.match(list(PROMPT.upper().encode())) == len(PROMPT)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("why", ["too short", "not saved"])
def test_it_stays_where_it_is_unless_host_memory_has_it(why: str) -> None:
    driver = small(n_cells=512)
    cells = driver.host._cells
    assert isinstance(cells, FakeCells)
    if why == "not saved":
        cells.failing.add("save")
    prompt = "a" if why == "too short" else PROMPT
    run(driver, "first", prompt, 1)
    run(driver, "busy", "z", 30)
    assert driver.scheduler.cache.match(list(prompt.encode())) == len(prompt)


class Rent(CellRent):
    """Cells have cost enough after 100 tokens, as soon as copies have a price. ``prices``: what was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.prices: set[float] = set()

    def tokens(self, price: float | None) -> int | None:
        if price is None:
            return None
        self.prices.add(price)
        return 100


@pytest.mark.usefixtures("hasty")
def test_it_stays_until_its_cells_have_cost_as_much_as_the_copies() -> None:
    rent = Rent()
    driver = small(n_cells=512, rent=rent)
    slow(driver, 0.05)
    run(driver, "first", PROMPT)
    run(driver, "busy", "b", 30)
    assert driver.scheduler.cache.match(list(PROMPT.encode())) == 0, "nothing is known yet: after 10"
    run(driver, "second", PROMPT)
    assert driver.host.cost.out_and_in is not None
    run(driver, "busier", "c", 30)
    assert driver.scheduler.cache.match(list(PROMPT.encode())) == len(PROMPT)
    assert min(rent.prices) > 0
    run(driver, "busiest", "d", 40)
    run(driver, "last", "e", 40)
    assert driver.scheduler.cache.match(list(PROMPT.encode())) == 0
    driver.check_idle()


# --- what it may cost ---


def test_copies_that_cost_more_than_computing_are_not_made() -> None:
    driver = small()
    slow(driver, 0.9)  # for 8 tokens, which are computed in 0.8
    run(driver, "first", PROMPT)
    crowd_out(driver)
    saves = driver.host._cells.n_saves
    crowd_out(driver, "y")
    crowd_out(driver, "x")
    assert driver.host._cells.n_saves == saves, "the first copies have shown what they cost"
    assert run(driver, "second", PROMPT).finished().timings.cache_n == 0
    assert driver.host.figures.restored == 0


def test_a_running_stream_waits_for_one_block_a_step_at_most() -> None:
    driver = small(n_cells=96)
    slow(driver, 0.1)
    run(driver, "first", PROMPT)
    run(driver, "more", "m" * 58)
    run(driver, "crowd", "z" * 58)
    stream = driver.ask("stream", "s", 30)
    driver.steps(2)
    cells = driver.host._cells
    box = driver.ask("second", PROMPT + "!", 2)
    worst = 0
    while not box.terminals:
        before, said = cells.n_saves + cells.n_restores, len(stream.tokens)
        driver.step()
        worst = max(worst, cells.n_saves + cells.n_restores - before)
        assert len(stream.tokens) == said + 1, "the stream stood still"
    assert box.finished().timings.cache_n >= 32
    assert worst <= 2, "a copy out for the room, a copy in"
    driver.finish()


def test_while_a_stream_runs_a_quarter_of_the_step_is_for_copies() -> None:
    driver = small()
    books = driver.scheduler.books
    assert budget(books, 0.2) == float("inf")
    driver.ask("stream", "s", 9)
    driver.steps(2)
    assert budget(books, 0.2) == pytest.approx(0.05)


def test_what_cannot_be_saved_in_time_is_lost_and_counted() -> None:
    driver = small(n_cells=96, n_slots=3)
    slow(driver, 0.2)
    run(driver, "first", PROMPT)
    stream = driver.ask("stream", "s", 40)
    driver.steps(2)
    big = driver.ask("big", "b" * 60, 1)
    driver.finish()
    assert stream.finished()
    assert big.finished()
    figures = driver.host.figures
    assert figures.lost > 0
    assert run(driver, "second", PROMPT).finished().timings.cache_n < len(PROMPT) - 1
    driver.check_idle()


def test_progress_counts_what_came_back_as_cached() -> None:
    driver = small()
    run(driver, "first", PROMPT)
    crowd_out(driver)
    box = run(driver, "second", PROMPT + " and so on", report_progress=True)
    progress = [event for event in box.events if isinstance(event, PrefillProgress)]
    assert {event.cache for event in progress} == {len(PROMPT)}


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
