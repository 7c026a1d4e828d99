"""Slot files through the bridge: the thread, the file, and everybody who may leave or die meanwhile."""

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from engine.bridge import BridgedEngine, open_text_engine
from engine.errors import EngineUnavailable, InvalidRequest, StorageError
from engine.text.commands import Cancel
from tests.engine.fake_backend import continuation
from tests.engine.rig import Rig, ask, check_complete, generate

FIRST = ask("first", "once upon a time", 4, slot=1)


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def test_what_was_saved_is_restored_in_another_engine(tmp_path: Path) -> None:
    path = tmp_path / "slot.bin"
    rig = Rig()
    async with open_text_engine(rig.start) as engine:
        check_complete(await generate(engine, FIRST), FIRST)
        written = await engine.save_slot(1, path)
        assert written.n_bytes == path.stat().st_size
        assert engine.slots()[1].n_past == written.n_tokens == 19
    rig.check_over()
    other = Rig()
    async with open_text_engine(other.start) as engine:
        restored = await engine.restore_slot(0, path)
        assert restored == written
        prompt = [*FIRST.prompt, *continuation(FIRST.prompt, 3), *b" and"]
        request = ask("next", bytes(prompt).decode(), 5)
        events = await generate(engine, request)
        check_complete(events, request)
        assert events[-1].timings.cache_n == written.n_tokens
        assert await engine.erase_slot(0) > 0
    other.check_over()


async def test_errors_come_to_whom_they_belong(tmp_path: Path) -> None:
    async with open_text_engine(Rig().start) as engine:
        with pytest.raises(InvalidRequest, match="slot 0 has nothing"):
            await engine.save_slot(0, tmp_path / "a")
        with pytest.raises(InvalidRequest, match="No such file"):
            await engine.restore_slot(0, tmp_path / "a")
        with pytest.raises(InvalidRequest, match="slots 0 to 3"):
            await engine.erase_slot(4)
        await generate(engine, FIRST)
        with pytest.raises(StorageError, match="cannot be written"):
            await engine.save_slot(1, tmp_path / "no" / "a")
    assert is_empty(tmp_path)


async def test_a_model_that_cannot_be_copied_is_refused_before_the_thread_is_asked(tmp_path: Path) -> None:
    rig = Rig()
    rig.backend.info = attrs.evolve(rig.backend.info, can_copy_state=False)
    async with open_text_engine(rig.start) as engine:
        await generate(engine, FIRST)
        for act in (engine.save_slot, engine.restore_slot):
            with pytest.raises(InvalidRequest, match="sliding window"):
                await act(1, tmp_path / "a")
        assert await engine.erase_slot(1) > 0


async def running(rig: Rig, engine: BridgedEngine, nursery: trio.Nursery) -> None:
    """Let a request run on slot 1, held at its second decode."""
    rig.step_by_step()
    nursery.start_soon(generate, engine, FIRST)
    await rig.at_decode()
    await rig.step()


async def test_leaving_withdraws_what_waits_for_a_busy_slot() -> None:
    rig = Rig()
    async with open_text_engine(rig.start) as engine, trio.open_nursery() as nursery:
        await running(rig, engine, nursery)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(engine.erase_slot, 1)
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        rig.let_run()
    assert rig.scheduler.n_remembered(1) > 0, "it was erased for nobody"
    rig.check_over()


async def test_a_dying_engine_answers() -> None:
    rig = Rig()
    caught: list[EngineUnavailable] = []

    async def erase(engine: BridgedEngine) -> None:
        try:
            await engine.erase_slot(1)
        except EngineUnavailable as error:
            caught.append(error)

    async def live_and_die() -> None:
        async with open_text_engine(rig.start) as engine, trio.open_nursery() as nursery:
            await running(rig, engine, nursery)
            nursery.start_soon(erase, engine)
            await trio.testing.wait_all_tasks_blocked()
            rig.die()
            await rig.gone()

    with pytest.raises(EngineUnavailable, match="died"):
        await live_and_die()
    assert len(caught) == 1


async def test_a_closed_engine_takes_no_more_commands(tmp_path: Path) -> None:
    rig = Rig()
    async with open_text_engine(rig.start) as engine:
        pass
    for act in (lambda: engine.erase_slot(0), lambda: engine.save_slot(0, tmp_path / "a")):
        with pytest.raises(EngineUnavailable, match="shutting down"):
            await act()
    engine._send(Cancel("whoever"))  # who was answered too late may still withdraw
