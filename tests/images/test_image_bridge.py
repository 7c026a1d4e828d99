"""The image engine through the bridge, on the fake backend: cancelled, read slowly, dying, closing."""

import threading
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from engine.errors import EngineUnavailable, InvalidRequest, ModelLoadError
from engine.image.events import ImageDone, ImageEvent, ImagePreview, ImageProgress, ImagesFailed, ImagesFinished
from engine.image.loop import ImageLoop, Publish, StartedImages
from engine.image_bridge import STACK, THREAD_NAME, open_image_engine
from engine.native.sd.options import Preview
from tests.images.asking import ask, params
from tests.images.fake_backend import FakeImageBackend, picture


class Rig:
    """A backend and how to start an engine on it. Call ``step_by_step`` to hold each step until ``go``."""

    def __init__(self) -> None:
        self.backend = FakeImageBackend()
        self._go = threading.Semaphore(0)
        self._free = False
        self._send, self._receive = trio.open_memory_channel[int](100)

    def start(self, publish: Publish) -> StartedImages:
        return StartedImages(self.backend, ImageLoop(self.backend, publish))

    def step_by_step(self, token: trio.lowlevel.TrioToken) -> None:
        def hold(step: int) -> None:
            if not self._free:
                trio.from_thread.run_sync(self._send.send_nowait, step, trio_token=token)
                self._go.acquire()

        self.backend.before_step = hold
        abort = self.backend.abort

        def abort_and_go() -> None:
            abort()
            self._go.release()

        self.backend.abort = abort_and_go  # type: ignore[method-assign]

    async def at_step(self) -> int:
        """Wait until the thread is about to do a step."""
        with trio.fail_after(20):
            return await self._receive.receive()

    async def step(self) -> int:
        self._go.release()
        return await self.at_step()

    def let_run(self) -> None:
        self._free = True
        self._go.release()

    def check_over(self) -> None:
        assert not image_threads()
        assert self.backend.closed


def image_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


async def read_all(events: AsyncIterator[ImageEvent]) -> list[ImageEvent]:
    with trio.fail_after(20):
        return [event async for event in events]


def check_complete(events: list[ImageEvent], seeds: tuple[int, ...] = (7,)) -> None:
    done = [event for event in events if isinstance(event, ImageDone)]
    assert [event.image.data for event in done] == [picture(params(seed=seed)).data for seed in seeds]
    assert [isinstance(event, ImagesFinished | ImagesFailed) for event in events].count(True) == 1
    assert isinstance(events[-1], ImagesFinished)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_request_runs_and_its_events_end_with_the_terminal_one(rig: Rig) -> None:
    async with open_image_engine(rig.start) as engine:
        assert engine.info is rig.backend.info
        async with engine.generate(ask("a", n=2)) as events:
            check_complete(await read_all(events), (7, 8))
            assert await read_all(events) == [], "it stays ended"
        assert engine.stats().images_total == 2
        assert engine.current() is None
    rig.check_over()


async def test_many_wait_and_all_are_served(rig: Rig) -> None:
    seen: dict[str, list[ImageEvent]] = {}

    async def run(name: str) -> None:
        async with engine.generate(ask(name)) as events:
            seen[name] = await read_all(events)

    async with open_image_engine(rig.start) as engine, trio.open_nursery() as nursery:
        for index in range(6):
            nursery.start_soon(run, str(index))
    assert len(seen) == 6
    for events in seen.values():
        check_complete(events)
    rig.check_over()


async def test_what_must_not_run_is_refused_on_entering(rig: Rig) -> None:
    async with open_image_engine(rig.start) as engine:
        with pytest.raises(InvalidRequest):
            async with engine.generate(ask("a", steps=0)):
                pass
        assert rig.backend.made == []


async def test_a_second_request_with_the_same_id_does_no_harm_to_the_first(rig: Rig) -> None:
    rig.step_by_step(trio.lowlevel.current_trio_token())
    async with open_image_engine(rig.start) as engine, engine.generate(ask("same")) as events:
        await rig.at_step()
        with pytest.raises(InvalidRequest):
            async with engine.generate(ask("same")):
                pass
        rig.let_run()
        check_complete(await read_all(events))


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
@pytest.mark.parametrize("at", range(4))
async def test_cancelled_at_a_step_the_image_stops_and_the_next_is_undisturbed(rig: Rig, how: str, at: int) -> None:
    rig.step_by_step(trio.lowlevel.current_trio_token())
    async with open_image_engine(rig.start) as engine, engine.generate(ask("next")) as others:
        await rig.at_step()
        async with engine.generate(ask("other", n=4)):
            pass  # gone before it began
        for _ in range(3):
            await rig.step()
        rig._go.release()
        check_complete(await read_all(others))
        with trio.CancelScope() as scope:
            try:
                async with engine.generate(ask("a", n=4)) as events:
                    for _ in range(at):
                        await rig.at_step()
                        rig._go.release()
                    await rig.at_step()
                    if how == "raise":
                        raise KeyError(how)
                    if how == "cancel":
                        scope.cancel()
                        await read_all(events)
                        raise AssertionError("a cancelled reader gets nothing")
            except KeyError:
                assert how == "raise"
        assert scope.cancelled_caught == (how == "cancel")
        # Nobody lets the step go: leaving the block has aborted it.
        rig._free = True
        async with engine.generate(ask("after")) as events:
            check_complete(await read_all(events))
        assert [made.seed for made in rig.backend.made] == [7, 7, 7]
    rig.check_over()


async def test_a_client_that_does_not_read_misses_previews_and_nothing_else(rig: Rig) -> None:
    slow, fast = ask("slow", steps=9, preview=Preview.FAST), ask("fast")
    async with open_image_engine(rig.start, preview_buffer=2) as engine, engine.generate(slow) as unread:
        async with engine.generate(fast) as events:
            check_complete(await read_all(events))
        seen = await read_all(unread)
    assert [event.step for event in seen if isinstance(event, ImagePreview)] == [8, 9]
    assert [event.step for event in seen if isinstance(event, ImageProgress)] == list(range(10))
    assert isinstance(seen[-1], ImagesFinished)
    assert isinstance(seen[-2], ImageDone)
    rig.check_over()


async def test_a_model_that_does_not_load_is_an_error_of_the_opening() -> None:
    def start(publish: Publish) -> StartedImages:
        raise ModelLoadError("no such file")

    with pytest.raises(ModelLoadError, match="no such file"):
        async with open_image_engine(start):
            raise AssertionError("there is no engine")
    assert not image_threads()


async def test_a_death_ends_requests_and_is_raised_at_the_end(rig: Rig) -> None:
    rig.step_by_step(trio.lowlevel.current_trio_token())

    async def live_and_die() -> None:
        async with open_image_engine(rig.start) as engine:
            async with engine.generate(ask("a")) as events, engine.generate(ask("b")) as waiting:
                await rig.at_step()
                rig.backend.fail = ZeroDivisionError("a bug")
                rig.let_run()
                for stream in (events, waiting):
                    end = (await read_all(stream))[-1]
                    assert isinstance(end, ImagesFailed)
                    assert isinstance(end.error, EngineUnavailable)
            with trio.fail_after(20):
                await engine.died.wait()
            with pytest.raises(EngineUnavailable):
                async with engine.generate(ask("c")):
                    pass

    with pytest.raises(EngineUnavailable, match="died"):
        await live_and_die()
    rig.check_over()


async def test_closing_aborts_what_runs_and_fails_what_waits(rig: Rig) -> None:
    rig.step_by_step(trio.lowlevel.current_trio_token())
    async with open_image_engine(rig.start) as engine:
        first, second = engine.generate(ask("a")), engine.generate(ask("b"))
        async with first as running, second as waiting:
            await rig.at_step()
            engine.close("over")
            for stream in (running, waiting):
                (*_, end) = await read_all(stream)
                assert isinstance(end, ImagesFailed)
        assert rig.backend.aborts == 1
        with pytest.raises(EngineUnavailable, match="over"):
            async with engine.generate(ask("c")):
                pass
    rig.check_over()


async def test_cancelling_all_ends_all(rig: Rig) -> None:
    rig.step_by_step(trio.lowlevel.current_trio_token())
    with trio.CancelScope() as scope:
        async with open_image_engine(rig.start) as engine, engine.generate(ask("a")) as events:
            await rig.at_step()
            scope.cancel()
            await read_all(events)
    assert scope.cancelled_caught
    rig.check_over()


async def test_other_threads_keep_their_stack(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    stack_size = threading.stack_size
    before = stack_size()
    monkeypatch.setattr(threading, "stack_size", lambda size=0: asked.append(size) or stack_size(size))
    async with open_image_engine(rig.start):
        pass
    assert asked == [STACK, before]
    assert stack_size() == before
