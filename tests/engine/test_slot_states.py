"""Slot files of models whose KV cache cannot be cut: what is saved is a state that was kept. On the fake backend."""

import attrs
import pytest

from engine.errors import EngineUnavailable, InvalidRequest
from engine.text.events import SlotDone
from engine.text.slots import Remembered
from engine.text.snapshot import Snapshot
from engine.text.tokens import row
from tests.engine.driver import Driver
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.test_slot_commands import done, erase, refused, restore, save, work

STORY = "once upon a time in a far away land there was"
LEFT = [*STORY.encode(), *continuation(STORY.encode(), 3)]  # the fourth token was never computed


def engine(cuts: bool, kept_bytes: int = 1 << 20, **fields: object) -> Driver:
    sizes = {"n_cells": 256, "n_ctx_slot": 128, "n_slots": 2, "can_shift": False}
    return Driver(FakeBackend(**{**sizes, **fields}, cuts=cuts), kept_bytes=kept_bytes, can_reuse=False)


@pytest.fixture(params=[True, False], ids=["window", "recurrent"])
def cuts(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def saved(driver: Driver) -> Snapshot:
    driver.ask("first", STORY, 4, slot=0)
    driver.finish()
    snapshot = done(work(driver, save(driver))).snapshot
    assert snapshot is not None
    return snapshot


def test_a_restored_prompt_goes_on_as_if_it_had_never_left(cuts: bool) -> None:
    snapshot = saved(engine(cuts))
    assert snapshot.tokens == row(LEFT)
    driver = engine(cuts)
    assert done(work(driver, restore(driver, snapshot, slot=1))) == SlotDone(n_tokens=len(LEFT))
    assert driver.backend.computed == 0
    driver.check_idle()
    prompt = bytes(LEFT).decode() + " and"
    box = driver.ask("next", prompt, 6)
    driver.finish()
    assert box.finished().timings.cache_n == len(LEFT)
    assert box.tokens == continuation(prompt.encode(), 6)
    assert done(work(driver, save(driver, slot=1))).n_tokens == len(LEFT), "slot 1 remembers it, the request ran in 0"


def test_what_is_kept_already_is_not_copied(cuts: bool) -> None:
    driver = engine(cuts)
    snapshot = saved(driver)
    driver.backend.refuses_state = True
    assert done(work(driver, restore(driver, snapshot, slot=1))).n_tokens == len(LEFT)


def test_what_is_left_of_a_prompt_is_saved(cuts: bool) -> None:
    driver = engine(cuts)
    saved(driver)
    kept = driver.checkpoints
    assert kept is not None
    shorter = kept.find(row(LEFT[:-1]), ())
    assert shorter is not None
    kept.erase(row(LEFT), ())
    assert kept.put(shorter[0], (), shorter[1])
    snapshot = done(work(driver, save(driver))).snapshot
    assert snapshot == Snapshot(tokens=shorter[0], adapters=(), state=shorter[1])


@pytest.mark.parametrize("why", ["never used", "erased", "no memory"])
def test_where_nothing_is_kept_nothing_is_saved(cuts: bool, why: str) -> None:
    driver = engine(cuts, kept_bytes=0 if why == "no memory" else 1 << 20)
    if why != "never used":
        driver.ask("first", STORY, 4, slot=0)
        driver.finish()
    if why == "erased":
        done(work(driver, erase(driver)))
    error = refused(work(driver, save(driver)))
    assert isinstance(error, InvalidRequest)
    assert "nothing that is kept" in str(error)
    assert ("--cache-ram 0" if why == "no memory" else "of 8 tokens and more") in str(error)


def test_a_state_larger_than_all_that_may_be_kept_is_refused(cuts: bool) -> None:
    snapshot = saved(engine(cuts))
    driver = engine(cuts, kept_bytes=len(bytes(snapshot.state)))
    error = refused(work(driver, restore(driver, snapshot)))
    assert isinstance(error, InvalidRequest)
    assert "more than --cache-ram allows" in str(error)
    assert driver.scheduler.n_remembered(0) == 0
    driver.check_idle()


@pytest.mark.parametrize("fault", ["refused", "other positions"])
def test_a_state_that_the_library_does_not_take_leaves_no_trace(cuts: bool, fault: str) -> None:
    snapshot = saved(engine(cuts))
    driver = engine(cuts)
    if fault == "refused":
        driver.backend.refuses_state = True
    else:
        snapshot = attrs.evolve(snapshot, tokens=snapshot.tokens[:-1])
    error = refused(work(driver, restore(driver, snapshot)))
    assert isinstance(error, InvalidRequest)
    assert error.param == "filename"
    assert driver.checkpoints is not None
    assert driver.checkpoints.n_bytes == 0
    driver.check_idle()


def test_running_requests_are_not_robbed(cuts: bool) -> None:
    snapshot = saved(engine(cuts))
    driver = engine(cuts, n_cells=len(LEFT) + 8, n_ctx_slot=len(LEFT) + 8)
    driver.ask("long", STORY[:30], 16, slot=1)
    driver.step()
    assert isinstance(refused(work(driver, restore(driver, snapshot))), EngineUnavailable)
    driver.finish()
    driver.check_idle()


def test_more_than_text_is_not_saved(cuts: bool) -> None:
    driver = engine(cuts)
    tokens = [*b"look: ", -7, *b"?"]  # the negative one stands for an image
    assert driver.checkpoints is not None
    assert driver.checkpoints.put(tokens, (), b"state")
    driver.scheduler.books.slots.remember(0, Remembered(tokens, ()))
    assert "more than text" in str(refused(work(driver, save(driver))))
