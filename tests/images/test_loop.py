"""The image loop by hand: no thread of its own, every step of every image is a place to interfere."""

import logging

import attrs
import pytest

from engine.errors import EngineUnavailable, NativeError
from engine.image.commands import Cancel, Mailbox, Stop, Submit
from engine.image.events import (
    ImageDone,
    ImageEvent,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    ImagesFailed,
    ImagesFinished,
)
from engine.image.loop import ImageLoop
from engine.image.requests import AnyRequest, UpscaleRequest
from engine.native.sd.options import Preview
from tests.images.asking import ask, gradient, params
from tests.images.fake_backend import FakeImageBackend, picture


class Box(Mailbox):
    def __init__(self) -> None:
        self.events: list[ImageEvent] = []

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def terminals(self) -> list[ImageEvent]:
        return self.of((ImagesFinished, ImagesFailed))


class Driver:
    """A loop on the fake backend, with a clock that each look moves by a second."""

    def __init__(self) -> None:
        self.backend = FakeImageBackend()
        self.time = 0.0
        self.loop = ImageLoop(self.backend, self._publish, clock=self._clock)

    def _clock(self) -> float:
        self.time += 1.0
        return self.time

    def _publish(self, batch: list[tuple[Box, ImageEvent]]) -> None:
        for box, event in batch:
            if isinstance(event, ImageDone | ImagesFinished | ImagesFailed):
                assert self.loop.current() is None, "who reads this is not to find the image running"
            box.events.append(event)

    def submit(self, request: AnyRequest) -> Box:
        box = Box()
        self.loop.commands.put(Submit(request, box))
        return box

    def cancel(self, request_id: str) -> None:
        """As the bridge does it."""
        self.loop.commands.put(Cancel(request_id))
        self.loop.abort(request_id)

    def finish(self) -> None:
        """Run until all that was asked for is done. The loop itself would wait for commands at the end."""
        while self.loop._jobs or not self.loop.commands.empty():
            if not self.loop.commands.empty():
                self.loop._obey(self.loop.commands.get())
            else:
                self.loop.step()
        self.loop._flush()


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_request_gets_its_images_and_one_terminal_event(driver: Driver) -> None:
    box = driver.submit(ask("a", n=3))
    driver.finish()
    done = box.of(ImageDone)
    assert [(event.index, event.seed) for event in done] == [(0, 7), (1, 8), (2, 9)]
    assert [event.image.data for event in done] == [picture(params(seed=seed)).data for seed in (7, 8, 9)]
    assert isinstance(box.events[-1], ImagesFinished)
    assert len(box.terminals) == 1
    steps = [(event.index, event.step, event.steps) for event in box.of(ImageProgress)]
    assert steps == [(index, step, 3) for index in range(3) for step in range(4)]
    assert box.of(ImagePreview) == []
    timings = box.terminals[0].timings
    assert (timings.process_ms, timings.steps) == (1500.0, 9)
    assert driver.loop.stats.images_total == 3
    assert driver.loop.stats.generate_steps_total == 9


def test_previews_come_before_the_step_that_they_show_is_reported(driver: Driver) -> None:
    box = driver.submit(ask("a", preview=Preview.FAST))
    driver.finish()
    order = [
        (type(event).__name__, event.step) for event in box.events if isinstance(event, ImagePreview | ImageProgress)
    ]
    assert order == [
        ("ImageProgress", 0),
        *[(kind, step) for step in (1, 2, 3) for kind in ("ImagePreview", "ImageProgress")],
    ]


def test_first_come_first_served_and_everybody_knows_the_place(driver: Driver) -> None:
    boxes = [driver.submit(ask(str(i), n=2)) for i in range(3)]
    order: list[int] = []
    driver.backend.before_step = lambda step: order.append(driver.backend.made[-1].seed) if step == 0 else None
    driver.finish()
    assert order == [7, 8] * 3
    assert [[event.ahead for event in box.of(ImageQueued)] for box in boxes] == [[], [1], [2, 1]]
    assert all(len(box.terminals) == 1 and len(box.of(ImageDone)) == 2 for box in boxes)


@pytest.mark.parametrize("at", range(8))
def test_cancelled_at_every_step_nothing_more_is_told_and_the_next_is_undisturbed(driver: Driver, at: int) -> None:
    """Two images of four steps: each of the eight is a place to leave."""
    box, after = driver.submit(ask("a", n=2)), driver.submit(ask("b"))
    seen = 0

    def interfere(step: int) -> None:
        nonlocal seen
        if seen == at:
            driver.cancel("a")
        seen += 1

    driver.backend.before_step = interfere
    driver.finish()
    assert box.terminals == []
    assert len(box.of(ImageDone)) == at // 4
    assert driver.backend.aborts == 1
    assert [event.image.data for event in after.of(ImageDone)] == [picture(params()).data]
    assert len(after.terminals) == 1


def test_cancelled_while_another_runs_it_is_gone_and_the_other_is_not_aborted(driver: Driver) -> None:
    running, waiting = driver.submit(ask("a")), driver.submit(ask("b"))
    driver.backend.before_step = lambda step: driver.cancel("b") if step == 1 else None
    driver.finish()
    assert driver.backend.aborts == 0
    assert isinstance(running.events[-1], ImagesFinished)
    assert waiting.of(ImageDone) == waiting.terminals == []
    assert len(driver.backend.made) == 1


def test_where_nothing_can_be_aborted_the_image_is_computed_and_thrown_away(driver: Driver) -> None:
    driver.backend.info = attrs.evolve(driver.backend.info, can_abort=False)
    box = driver.submit(ask("a", n=2))
    driver.backend.before_step = lambda step: driver.cancel("a") if step == 1 else None
    driver.finish()
    assert len(driver.backend.made) == 1
    assert [event.step for event in box.of(ImageProgress)] == [0], "nobody is told about the rest"
    assert box.of(ImageDone) == box.terminals == []


def test_a_command_that_comes_while_the_image_begins_is_obeyed_first(driver: Driver) -> None:
    box = driver.submit(ask("a"))
    clear = driver.backend.clear_abort

    def clear_and_cancel() -> None:
        clear()
        driver.backend.clear_abort = clear  # type: ignore[method-assign]
        driver.loop.commands.put(Cancel("a"))

    driver.backend.clear_abort = clear_and_cancel  # type: ignore[method-assign]
    driver.finish()
    assert driver.backend.made == []
    assert box.events == []


def test_an_error_of_the_library_fails_one_request(driver: Driver) -> None:
    driver.backend.fail = NativeError("no numbers")
    box = driver.submit(ask("a", n=3))
    driver.finish()
    assert [str(event.error) for event in box.terminals] == ["no numbers"]
    assert driver.loop.stats.images_failed_total == 1
    driver.backend.fail = None
    again = driver.submit(ask("b"))
    driver.finish()
    assert isinstance(again.events[-1], ImagesFinished)


def test_an_abort_that_nobody_asked_for_is_an_error(driver: Driver) -> None:
    box = driver.submit(ask("a"))
    driver.backend.before_step = lambda step: driver.backend.abort()
    driver.finish()
    (end,) = box.terminals
    assert isinstance(end, ImagesFailed)


@pytest.mark.parametrize("wait", [0, 1])
def test_stopped_every_request_gets_its_end(driver: Driver, wait: int) -> None:
    boxes = [driver.submit(ask(str(i))) for i in range(3)]

    def stop(step: int) -> None:
        if step == wait:
            driver.loop.commands.put(Stop())
            driver.loop.abort()

    driver.backend.before_step = stop
    driver.loop.run()
    for box in boxes:
        (end,) = box.terminals
        assert isinstance(end, ImagesFailed)
        assert isinstance(end.error, EngineUnavailable)
    assert len(driver.backend.made) == 1


def test_dying_it_tells_everybody(driver: Driver) -> None:
    boxes = [driver.submit(ask(str(i))) for i in range(2)]
    driver.backend.fail = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        driver.loop.run()
    assert [type(event) for box in boxes for event in box.terminals] == [ImagesFailed] * 2
    assert driver.loop.current() is None


def test_edges_take_the_place_of_the_control_image(driver: Driver) -> None:
    driver.submit(ask("a", canny=True, control_image=gradient()))
    driver.finish()
    (made,) = driver.backend.made
    assert made.control_image == driver.backend.find_edges(gradient())


def test_images_are_upscaled_as_often_as_asked(driver: Driver) -> None:
    once, thrice = (
        driver.submit(ask("a", upscale_repeats=1)),
        driver.submit(UpscaleRequest(id="b", image=gradient(), repeats=3)),
    )
    driver.finish()
    assert [event.image.width for box in (once, thrice) for event in box.of(ImageDone)] == [128, 512]
    assert once.of(ImageDone)[0].timings.generate_ms > 2000.0


def test_an_upscaling_can_be_cancelled(driver: Driver) -> None:
    box = driver.submit(UpscaleRequest(id="b", image=gradient(), repeats=3))
    driver.backend.before_step = lambda step: driver.cancel("b")
    driver.finish()
    assert box.events == []


def test_what_runs_can_be_looked_at(driver: Driver) -> None:
    driver.submit(ask("a", n=2))
    driver.submit(ask("b"))
    seen: list[tuple[str, int, int, int]] = []
    gauges: set[tuple[int, int]] = set()

    def look(step: int) -> None:
        state = driver.loop.current()
        assert state is not None
        seen.append((state.request_id, state.index, state.step, state.steps))
        gauges.add((driver.loop.stats.requests_processing, driver.loop.stats.requests_deferred))

    driver.backend.before_step = look
    driver.finish()
    assert seen[:5] == [("a", 0, 0, 0), ("a", 0, 0, 3), ("a", 0, 1, 3), ("a", 0, 2, 3), ("a", 1, 0, 0)]
    assert gauges == {(1, 1), (1, 0)}
    assert driver.loop.current() is None


def test_each_image_has_a_line_in_the_log_and_each_step_for_those_who_debug(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "engine.image")
    driver.submit(ask("a", n=2, seed=7))
    driver.finish()
    told = [record for record in caplog.records if record.levelno == logging.INFO]
    assert [record.getMessage() for record in told] == [
        f"image {number} of 2: 64x64, seed {6 + number}, 3 steps in 3.0 s after 0.5 s of encoding" for number in (1, 2)
    ]
    steps = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert steps[:4] == [f"image 1 of 2: step {step} of 3" for step in range(4)]
    assert {record.request_id for record in caplog.records} == {"a"}


def test_a_failure_is_logged_with_the_images_number(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.submit(ask("a", n=2))
    driver.backend.fail = NativeError("no numbers")
    driver.finish()
    assert caplog.messages == ["image 1 of 2 failed: no numbers"]
