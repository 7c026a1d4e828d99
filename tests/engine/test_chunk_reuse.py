"""--cache-reuse: parts of older prompts that are moved to where a new prompt has them."""

from collections.abc import Sequence
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text.chunk_reuse import Chunk, find_chunks
from engine.text.tokens import row
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.test_media import chunk, expected, request

BEGIN, GONE, KEPT, LAST = "you are helpful. ", "yesterday's news ", "the documents are all here ", "so what is it?"
OLD = BEGIN + GONE + KEPT
NEW = BEGIN + KEPT + LAST


def driver_of(reuse_chunk: int = 8, *, host_bytes: int = 0, **fields: object) -> Driver:
    backend = FakeBackend(**{"n_cells": 256, "n_ctx_slot": 128, "n_slots": 2} | fields)
    return Driver(backend, reuse_chunk=reuse_chunk, host_bytes=host_bytes)


def run(driver: Driver, name: str, prompt: str, max_tokens: int = 4, **fields: object) -> Box:
    box = driver.ask(name, prompt, max_tokens, **fields)
    driver.finish()
    assert box.tokens == continuation(prompt.encode(), max_tokens, fields.get("adapters", ()))
    return box


tokens = st.lists(st.integers(0, 2), max_size=25)


@given(tokens, tokens, st.integers(1, 5))
def test_chunks_put_together_are_the_prompt(older: Sequence[int], prompt: Sequence[int], least: int) -> None:
    held = 0
    while held < min(len(older), len(prompt)) and older[held] == prompt[held]:
        held += 1
    chunks = find_chunks(row(older), row(prompt), held, least)
    together = [t for c in chunks for t in older[c.start : c.start + c.length]]
    assert prompt[held : held + len(together)] == together
    assert held + len(together) < max(len(prompt), held + 1), "the last token is computed"
    assert all(c.length >= least for c in chunks)
    assert all(a.start + a.length <= b.start for a, b in pairwise(chunks))
    end = held + len(together)
    rest = prompt[end : len(prompt) - 1][:least]
    at = chunks[-1].start + chunks[-1].length if chunks else held
    missed = [i for i in range(at, len(older) - least + 1) if older[i : i + least] == rest]
    assert len(rest) < least or not missed, "there was more"


def test_what_lies_between_is_left_out() -> None:
    older, prompt = row([1, 2, 9, 9, 3, 4, 5, 9, 6, 7, 8]), row([1, 2, 3, 4, 5, 6, 7, 8, 0])
    assert find_chunks(older, prompt, 2, 3) == [
        Chunk(4, 3),
        Chunk(8, 3),
    ]
    assert find_chunks(older, prompt, 2, 4) == []


def test_a_prompt_that_lost_its_middle_is_not_computed_again() -> None:
    driver = driver_of()
    run(driver, "old", OLD)
    before = driver.backend.computed
    timings = run(driver, "new", NEW).finished().timings
    assert timings.cache_n == len(BEGIN + KEPT)
    assert driver.backend.computed - before == len(LAST) + 3
    driver.check_idle()
    assert run(driver, "again", NEW).finished().timings.cache_n == len(NEW) - 1, "what was moved is cached like others"


@pytest.mark.parametrize("reuse_chunk", [0, 28])
def test_off_or_too_short(reuse_chunk: int) -> None:
    driver = driver_of(reuse_chunk)
    run(driver, "old", OLD)
    assert run(driver, "new", NEW).finished().timings.cache_n == len(BEGIN)


def test_the_older_prompt_is_kept_in_host_memory() -> None:
    driver = driver_of(host_bytes=1 << 20)
    driver.backend.before_decode = lambda runs: driver.clock.on(0.1)
    run(driver, "old", OLD)
    run(driver, "new", NEW)
    assert run(driver, "old again", OLD + "?").finished().timings.cache_n == len(OLD)
    driver.check_idle()


def test_cells_that_somebody_runs_on_stay_where_they_are() -> None:
    driver = driver_of()
    other = driver.ask("old", OLD, 20)
    driver.steps(3)
    assert run(driver, "new", NEW).finished().timings.cache_n == len(BEGIN)
    driver.finish()
    assert other.tokens == continuation(OLD.encode(), 20)


def test_the_idle_end_of_a_prompt_that_somebody_runs_on_is_not_moved() -> None:
    driver = driver_of(n_slots=3)
    run(driver, "old", OLD + "and this is the end of it")
    other = driver.ask("runs", OLD + "but this is another", 20)
    driver.steps(3)
    assert run(driver, "new", NEW).finished().timings.cache_n == len(BEGIN)
    driver.finish()
    assert other.tokens == continuation((OLD + "but this is another").encode(), 20)
    driver.check_idle()


def test_other_adapters_and_who_may_not_are_left_alone() -> None:
    driver = driver_of()
    run(driver, "old", OLD, adapters=((1, 1.0),))
    assert run(driver, "new", NEW).finished().timings.cache_n == 0
    driver = driver_of()
    run(driver, "old", OLD)
    assert run(driver, "new", NEW, cache_prompt=False).finished().timings.cache_n == 0


def test_a_prompt_with_an_image_takes_only_its_beginning() -> None:
    driver = driver_of()
    run(driver, "old", OLD)
    wanted = request("new", NEW, chunk("x"), "what is it?")
    box = driver.submit(wanted)
    driver.finish()
    assert box.tokens == expected(wanted)
    assert box.finished().timings.cache_n == len(BEGIN)


def test_who_leaves_before_the_library_has_moved_the_cells_leaves_none_of_them() -> None:
    driver = driver_of(n_slots=1)
    run(driver, "old", OLD)
    driver.ask("new", NEW)
    driver.loop._drain()
    driver.scheduler.admit(driver.clock())
    assert driver.scheduler.running[0].n_past == len(BEGIN + KEPT)
    driver.cancel("new")
    driver.step()
    assert driver.scheduler.cache.match(row(NEW.encode())) == len(BEGIN)
    driver.check_idle()


@attrs.frozen
class Ask:
    parts: list[str]
    wait: int
    cancel: bool


asks = st.builds(
    Ask,
    parts=st.lists(st.sampled_from([BEGIN, GONE, KEPT, LAST, "x"]), min_size=1, max_size=5),
    wait=st.integers(0, 8),
    cancel=st.sampled_from([False, False, False, True]),
)


@settings(max_examples=150)
@given(
    plan=st.lists(asks, min_size=3, max_size=15),
    least=st.sampled_from([2, 8, 20]),
    n_cells=st.sampled_from([128, 300]),
    n_seqs=st.sampled_from([3, 8]),
    host=st.sampled_from([0, 1 << 20]),
)
def test_any_prompts_give_what_each_would_get_alone(
    plan: list[Ask], least: int, n_cells: int, n_seqs: int, host: int
) -> None:
    driver = driver_of(least, host_bytes=host, n_cells=n_cells, n_seqs=n_seqs, n_slots=3, n_batch=16)
    driver.backend.before_decode = lambda runs: driver.clock.on(0.1)
    prompts: dict[str, str] = {}
    for number, one in enumerate(plan):
        name = str(number)
        prompts[name] = "".join(one.parts)
        driver.ask(name, prompts[name], 3)
        for _ in range(one.wait):
            if driver.busy:
                driver.step()
        if one.cancel:
            driver.cancel(name)
    driver.finish()
    for (name, prompt), one in zip(prompts.items(), plan, strict=True):
        right = continuation(prompt.encode(), 3)
        assert driver.boxes[name].tokens == (right[: len(driver.boxes[name].tokens)] if one.cancel else right)
    driver.check_idle()
    driver.scheduler.cache.clear()
    assert not driver.backend.kv.cells
