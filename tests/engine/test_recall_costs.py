"""When prompts move to host memory, and what their copies may cost, on the fake backend."""

import pytest

from engine.text.cell_rent import CellRent
from engine.text.events import PrefillProgress
from engine.text.recall import budget
from engine.text.tokens import row
from tests.engine.fake_cells import FakeCells
from tests.engine.recalling import PROMPT, crowd_out, left_by, run, slow, small

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
    assert driver.scheduler.cache.match(row(PROMPT.encode())) == 0
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
    assert driver.scheduler.cache.match(row(PROMPT.upper().encode())) == len(PROMPT)


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
    assert driver.scheduler.cache.match(row(prompt.encode())) == len(prompt)


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
    assert driver.scheduler.cache.match(row(PROMPT.encode())) == 0, "nothing is known yet: after 10"
    run(driver, "second", PROMPT)
    assert driver.host.cost.out_and_in is not None
    run(driver, "busier", "c", 30)
    assert driver.scheduler.cache.match(row(PROMPT.encode())) == len(PROMPT)
    assert min(rent.prices) > 0
    run(driver, "busiest", "d", 40)
    run(driver, "last", "e", 40)
    assert driver.scheduler.cache.match(row(PROMPT.encode())) == 0
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
