"""The life of the engine: start, shutdown, death, and what each of them means for its requests."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from engine.bridge import BridgedEngine, open_text_engine
from engine.errors import EngineUnavailable, ModelLoadError
from engine.text.events import Event, Failed, Tokens
from engine.text.loop import Publish, Started
from engine.text.requests import GenerationRequest
from tests.engine.rig import Rig, ask, engine_threads, generate


@pytest.fixture
def rig() -> Rig:
    return Rig(n_cells=512, n_ctx_slot=512, n_batch=256)


# --- the end ---


async def test_shutdown_ends_what_runs_with_one_error_each(rig: Rig) -> None:
    rig.step_by_step()
    requests = [ask(str(i), f"prompt {i}", 50) for i in range(6)]  # more than slots
    seen: dict[str, list[Event]] = {}

    async def run(engine: BridgedEngine, request: GenerationRequest) -> None:
        seen[request.id] = await generate(engine, request)

    async with trio.open_nursery() as nursery, open_text_engine(rig.start) as engine:
        for request in requests:
            nursery.start_soon(run, engine, request)
        await trio.testing.wait_all_tasks_blocked()
        await rig.at_decode()
        await rig.step()
    assert len(seen) == 6
    for events in seen.values():
        assert [type(e) for e in events if not isinstance(e, Tokens)] == [Failed]
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, EngineUnavailable)
    rig.check_over()


async def test_after_the_end_nothing_is_taken(rig: Rig) -> None:
    async with open_text_engine(rig.start) as engine:
        pass
    with pytest.raises(EngineUnavailable, match="shutting down"):
        await generate(engine, ask("late"))
    rig.check_over()


async def test_the_death_of_the_thread_fails_everybody_and_is_raised_at_the_end(rig: Rig) -> None:
    rig.step_by_step()
    seen: list[list[Event]] = []

    async def run(engine: BridgedEngine, request: GenerationRequest) -> None:
        seen.append(await generate(engine, request))

    async def live_and_die() -> None:
        async with open_text_engine(rig.start) as engine:
            async with trio.open_nursery() as nursery:
                for i in range(6):
                    nursery.start_soon(run, engine, ask(str(i), max_tokens=50))
                await rig.at_decode()
                await rig.step()
                # This one is in the queue, and no step will come that takes it out.
                nursery.start_soon(run, engine, ask("queued"))
                await trio.testing.wait_all_tasks_blocked()
                rig.die()
            assert len(seen) == 7
            for events in seen:
                assert isinstance(events[-1], Failed)
                assert isinstance(events[-1].error, EngineUnavailable)
                assert sum(isinstance(e, Failed) for e in events) == 1
            await rig.gone()
            with pytest.raises(EngineUnavailable):
                await generate(engine, ask("late"))

    with pytest.raises(EngineUnavailable, match="died"):
        await live_and_die()
    rig.check_over()


@attrs.frozen
class Refusal:
    """A starter that fails."""

    error: BaseException

    def __call__(self, publish: Publish) -> Started:
        raise self.error


async def test_what_the_start_raises_is_raised_as_itself() -> None:
    error = ModelLoadError("no such file")
    with pytest.raises(ModelLoadError) as caught:
        async with open_text_engine(Refusal(error)):
            raise AssertionError("never entered")
    assert caught.value is error
    assert not engine_threads()


async def test_what_the_body_raises_is_raised_as_itself(rig: Rig) -> None:
    error = KeyError("mine")

    async def fail() -> None:
        async with open_text_engine(rig.start) as engine:
            await generate(engine, ask("a"))
            raise error

    with pytest.raises(KeyError) as caught:
        await fail()
    assert caught.value is error
    rig.check_over()


async def test_the_body_can_be_cancelled(rig: Rig) -> None:
    rig.step_by_step()
    with trio.CancelScope() as scope:
        async with open_text_engine(rig.start) as engine, engine.generate(ask("a", "x" * 200)) as events:
            await rig.at_decode()
            scope.cancel()
            await anext(events)
    assert scope.cancelled_caught
    rig.check_over()


@asynccontextmanager
async def held_start(rig: Rig) -> AsyncIterator[tuple[Callable[[Publish], Started], trio.Event]]:
    """A starter that takes until the block ends, and an event that says that it has begun."""
    begun, go = trio.Event(), threading.Event()

    def start(publish: Publish) -> Started:
        trio.from_thread.run_sync(begun.set)
        go.wait()
        return rig.start(publish)

    try:
        yield start, begun
    finally:
        go.set()


async def test_cancelled_while_it_starts_it_is_closed_when_it_has_started(rig: Rig) -> None:
    scope = trio.CancelScope()

    async def enter(start: Callable[[Publish], Started]) -> None:
        with scope:
            async with open_text_engine(start):
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery, held_start(rig) as (start, begun):
        nursery.start_soon(enter, start)
        await begun.wait()
        scope.cancel()
    assert scope.cancelled_caught
    rig.check_over()


async def test_a_group_that_the_body_raises_is_not_wrapped_into_another(rig: Rig) -> None:
    first, second = KeyError("a"), ValueError("b")

    async def fail() -> None:
        async with open_text_engine(rig.start):
            raise ExceptionGroup("mine", [first, second])

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert (caught.value.message, caught.value.exceptions) == ("mine", (first, second))
    rig.check_over()


async def test_entering_when_cancelled_already_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = trio.Event()
    new_event = trio.Event
    made: list[trio.Event] = []

    def remember() -> trio.Event:
        made.append(new_event())
        return made[-1]

    monkeypatch.setattr("engine.bridge.trio.Event", remember)

    async def enter() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                async with open_text_engine(rig.start):
                    await trio.sleep_forever()
            finally:
                ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter)
        with trio.move_on_after(2) as patience:
            await ended.wait()
        for event in made:  # a wait that no cancellation ends must not hang this test
            event.set()
    assert not patience.cancelled_caught
    assert not engine_threads()
