"""Saving, restoring and erasing slots through the loop, on the fake backend."""

import attrs
import pytest

from engine.errors import EngineError, EngineUnavailable, InvalidRequest
from engine.text.commands import Cancel, EraseSlot, RestoreSlot, SaveSlot, Stop
from engine.text.events import Failed, SlotDone
from engine.text.requests import GenerationRequest
from engine.text.slots import Remembered
from engine.text.snapshot import Snapshot
from engine.text.tokens import row
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import Cell, FakeBackend, continuation

PROMPT = "once upon a time"
A = ((1, 0.5),)


@pytest.fixture(params=[True, False], ids=["unified", "streams"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(FakeBackend(n_cells=128, n_ctx_slot=64, n_slots=2, kv_unified=request.param))


def save(driver: Driver, slot: int = 0) -> Box:
    box = Box()
    driver.loop.commands.put(SaveSlot("save", slot, box))
    return box


def restore(driver: Driver, snapshot: Snapshot, slot: int = 0) -> Box:
    box = Box()
    driver.loop.commands.put(RestoreSlot("restore", slot, box, snapshot))
    return box


def erase(driver: Driver, slot: int = 0) -> Box:
    box = Box()
    driver.loop.commands.put(EraseSlot("erase", slot, box))
    return box


def done(box: Box) -> SlotDone:
    (answer,) = box.events
    assert isinstance(answer, SlotDone), answer
    return answer


def refused(box: Box) -> EngineError:
    (answer,) = box.events
    assert isinstance(answer, Failed), answer
    return answer.error


def work(driver: Driver, box: Box) -> Box:
    """Step until the command is answered."""
    while not box.events:
        driver.step()
    return box


def saved(driver: Driver, prompt: str = PROMPT, **fields: object) -> Snapshot:
    driver.ask("first", prompt, 5, slot=0, **fields)
    driver.finish()
    snapshot = done(work(driver, save(driver))).snapshot
    assert snapshot is not None
    return snapshot


@pytest.mark.parametrize("adapters", [(), A])
def test_a_restored_prompt_goes_on_as_if_it_had_never_left(adapters: tuple[tuple[int, float], ...]) -> None:
    first = Driver(FakeBackend(n_cells=128, n_ctx_slot=64, n_slots=2))
    snapshot = saved(first, adapters=adapters)
    left = list(PROMPT.encode()) + continuation(PROMPT.encode(), 4, adapters)
    assert snapshot.tokens.tolist() == left, "the last token was never computed"
    second = Driver(FakeBackend(n_cells=128, n_ctx_slot=64, n_slots=2))
    answer = done(work(second, restore(second, snapshot, slot=1)))
    assert answer.n_tokens == len(left)
    assert second.backend.computed == 0
    box = second.ask("next", bytes(left).decode() + " and", 6, adapters=adapters)
    second.finish()
    assert box.finished().timings.cache_n == len(left)
    assert box.tokens == continuation([*left, *b" and"], 6, adapters)
    second.check_idle()


def test_a_saved_prompt_stays_cached(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.check_idle()
    box = driver.ask("next", bytes(snapshot.tokens.tolist()).decode() + "x", 1)
    driver.finish()
    assert box.finished().timings.cache_n == len(snapshot.tokens)


def test_the_restored_one_shares_the_cells_that_others_have_already(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.scheduler.cache.clear()
    driver.ask("other", PROMPT[:8] + "else", 1)
    driver.finish()
    before = len(driver.backend.kv.cells)
    done(work(driver, restore(driver, snapshot)))
    shared = 8 if driver.scheduler.limits.kv_unified else 0  # else a stream has copies
    assert len(driver.backend.kv.cells) == before + len(snapshot.tokens) - shared
    driver.check_idle()


def test_what_is_cached_already_is_not_copied(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.backend.refuses_state = True
    assert done(work(driver, restore(driver, snapshot, slot=1))).n_tokens == len(snapshot.tokens)
    assert done(work(driver, save(driver, slot=1))).n_tokens == len(snapshot.tokens), "the slot remembers it"


def test_a_prompt_that_lost_its_end_is_saved_as_far_as_it_goes(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.scheduler.cache.evict(3)
    assert done(work(driver, save(driver))).n_tokens == len(snapshot.tokens) - 3


def test_room_is_made_of_what_is_idle(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.scheduler.cache.clear()
    for name in "ab":
        driver.ask(name, name * 60, 1)
        driver.finish()
    assert done(work(driver, restore(driver, snapshot))).n_tokens == len(snapshot.tokens)
    driver.check_idle()


def test_room_that_the_library_lacked_under_load_counts_again_when_idle(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.scheduler.cache.clear()
    driver.scheduler.books.ceiling = 5
    assert done(work(driver, restore(driver, snapshot))).n_tokens == len(snapshot.tokens)


def test_running_requests_are_not_robbed() -> None:
    driver = Driver(FakeBackend(n_cells=64, n_ctx_slot=64, n_slots=2))
    snapshot = saved(driver)
    box = driver.ask("big", "b" * 50, 6, slot=1)
    driver.steps(2)
    error = refused(work(driver, restore(driver, snapshot)))
    assert isinstance(error, EngineUnavailable)
    assert "no room" in str(error)
    driver.finish()
    assert box.tokens == continuation(b"b" * 50, 6)
    driver.check_idle()


def test_a_busy_slot_is_waited_for_and_nobody_gets_it_before() -> None:
    driver = Driver(FakeBackend(n_slots=1))
    first = driver.ask("first", PROMPT, 3)
    driver.step()
    second = driver.ask("second", "something else", 3)
    box = save(driver)
    driver.step()
    assert not box.events
    while not first.terminals:
        driver.step()
    driver.step()
    assert bytes(done(box).snapshot.tokens.tolist()).startswith(PROMPT.encode())
    driver.finish()
    assert second.tokens == continuation(b"something else", 3)


def test_the_other_slots_are_not_waited_for(driver: Driver) -> None:
    saved(driver)
    driver.ask("long", "long", 30, slot=1)
    driver.step()
    box = save(driver)
    driver.step()
    done(box)
    driver.finish()


def test_who_leaves_withdraws_the_command() -> None:
    driver = Driver(FakeBackend(n_slots=1))
    driver.ask("first", PROMPT, 3)
    driver.step()
    box = erase(driver)
    driver.step()
    driver.loop.commands.put(Cancel("erase"))
    driver.finish()
    driver.step()
    assert not box.events
    assert driver.scheduler.n_remembered(0) > 0, "it was not erased"


def test_the_end_of_the_engine_is_an_answer_too() -> None:
    driver = Driver(FakeBackend(n_slots=1))
    driver.ask("first", PROMPT, 30)
    driver.step()
    box = save(driver)
    driver.step()
    driver.loop.commands.put(Stop())
    driver.loop.run()
    assert isinstance(refused(box), EngineUnavailable)


def test_erasing_gives_the_cells_back(driver: Driver) -> None:
    snapshot = saved(driver)
    assert done(work(driver, erase(driver))).n_tokens == len(snapshot.tokens)
    assert not driver.backend.kv.cells
    assert done(work(driver, erase(driver))).n_tokens == 0
    driver.check_idle()


def test_erasing_leaves_what_others_use(driver: Driver) -> None:
    snapshot = saved(driver)
    text = bytes(snapshot.tokens.tolist()).decode()
    longer = driver.ask("longer", text + "!", 9, slot=1)
    driver.steps(2)
    assert done(work(driver, erase(driver))).n_tokens == len(snapshot.tokens)
    driver.finish()
    assert longer.tokens == continuation([*snapshot.tokens, *b"!"], 9)
    again = driver.ask("again", text + "!", 1)
    driver.finish()
    assert again.finished().timings.cache_n == len(snapshot.tokens), "the longer prompt begins with it"


@pytest.mark.parametrize("command", [save, erase])
@pytest.mark.parametrize("slot", [-1, 2, 99])
def test_slots_that_do_not_exist_are_refused(driver: Driver, command: object, slot: int) -> None:
    error = refused(work(driver, command(driver, slot)))
    assert isinstance(error, InvalidRequest)
    assert error.param == "id_slot"
    assert "slots 0 to 1" in str(error)


def test_a_slot_without_anything_cannot_be_saved(driver: Driver) -> None:
    error = refused(work(driver, save(driver)))
    assert "slot 0 has nothing" in str(error)


@pytest.mark.parametrize(
    "tokens",
    [[], [1] * 65, [257], [-1]],
    ids=["none", "more than a slot", "above the vocabulary", "below it"],
)
def test_a_snapshot_that_does_not_fit_changes_nothing(driver: Driver, tokens: list[int]) -> None:
    snapshot = attrs.evolve(saved(driver), tokens=row(tokens))
    before = driver.scheduler.n_remembered(0)
    error = refused(work(driver, restore(driver, snapshot)))
    assert isinstance(error, InvalidRequest)
    assert error.param == "filename"
    assert driver.scheduler.n_remembered(0) == before


@pytest.mark.parametrize("fault", ["refused", "other positions"])
def test_a_state_that_the_library_does_not_take_leaves_no_trace(driver: Driver, fault: str) -> None:
    snapshot = saved(driver)
    driver.scheduler.cache.clear()
    if fault == "refused":
        driver.backend.refuses_state = True
    else:
        snapshot = attrs.evolve(snapshot, tokens=snapshot.tokens[:-1])
    error = refused(work(driver, restore(driver, snapshot)))
    assert isinstance(error, InvalidRequest)
    assert not driver.backend.kv.cells
    driver.check_idle()


def test_what_a_slot_remembers_of_a_file_stays_as_it_was_while_others_go_on_from_it(driver: Driver) -> None:
    snapshot = saved(driver)
    driver.scheduler.cache.clear()
    n_tokens = len(snapshot.tokens)
    assert done(work(driver, restore(driver, snapshot))).n_tokens == n_tokens
    second = [*snapshot.tokens, *b" again"]
    box = driver.submit(GenerationRequest(id="second", prompt=second, max_tokens=3, slot=1))
    driver.finish()
    assert box.finished().timings.cache_n == n_tokens
    assert (len(snapshot.tokens), driver.scheduler.n_remembered(0)) == (n_tokens, n_tokens)


def test_more_than_text_is_not_saved(driver: Driver) -> None:
    tokens = row([*b"look: ", -7, *b"?"])  # the negative one stands for an image
    cache = driver.scheduler.cache
    seq = cache.attach(row(), 0)
    driver.backend.kv.cells += [Cell(token, position, {seq}) for position, token in enumerate(tokens)]
    cache.extend(seq, tokens)
    cache.release(seq)
    driver.scheduler.books.slots.remember(0, Remembered(tokens, ()))
    assert "more than text" in str(refused(work(driver, save(driver))))
    driver.check_idle()
