"""A pool begins with two interpreters; more are started when jobs would wait."""

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llamabox.interpreters import InterpreterPool, JobFailedError, open_interpreter_pool
from tests.interpreters.fakes import FakeFactory, FakeInterpreter, Gate


async def _gates(pool: InterpreterPool, number: int, nursery: trio.Nursery) -> list[Gate]:
    """So many jobs in hand, as far as there are interpreters for them."""
    gates = [Gate() for _ in range(number)]
    for gate in gates:
        nursery.start_soon(pool.run, "", gate)
        await wait_all_tasks_blocked()
    return gates


async def _enter(gates: list[Gate]) -> None:
    for gate in gates:
        await gate.wait_entered()


async def test_interpreters_are_started_when_they_are_missed(factory: FakeFactory) -> None:
    async with open_interpreter_pool(4, create=factory) as pool:
        for _ in range(5):
            assert await pool.run("", lambda: 7) == 7
        assert len(factory.made) == 2
        async with trio.open_nursery() as nursery:
            gates = await _gates(pool, 3, nursery)
            await _enter(gates)
            assert len(factory.made) == 3
            gates += await _gates(pool, 4, nursery)
            await _enter(gates[:4])
            assert len(factory.made) == 4
            for gate in gates:
                gate.open.set()
        assert sum(made.calls for made in factory.made) == 5 + 7
        assert len(factory.made) == 4
    assert all(made.closed.is_set() for made in factory.made)


@pytest.mark.parametrize("number", [3, 5])
async def test_a_burst_has_as_many_started_as_it_needs(factory: FakeFactory, number: int) -> None:
    together = threading.Barrier(number)
    async with open_interpreter_pool(5, create=factory) as pool, trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(pool.run, "", lambda: together.wait(30))
    assert len(factory.made) == number


async def test_later_interpreters_are_prepared_too(factory: FakeFactory) -> None:
    done: list[str] = []
    warm = ("", lambda: done.append("warm"))
    async with open_interpreter_pool(3, warm=warm, create=factory) as pool, trio.open_nursery() as nursery:
        await pool.prepare("", lambda: done.append("prepared"))
        assert done == ["warm", "warm", "prepared", "prepared"]
        with pytest.raises(JobFailedError, match="ZeroDivisionError"):
            await pool.prepare("", lambda: 1 // 0)
        gates = await _gates(pool, 3, nursery)
        await _enter(gates)
        for gate in gates:
            gate.open.set()
    assert done[4:] == ["warm", "prepared"]


async def test_one_that_cannot_be_started_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    factory = FakeFactory(most=2)
    async with open_interpreter_pool(4, create=factory) as pool, trio.open_nursery() as nursery:
        gates = await _gates(pool, 4, nursery)
        await _enter(gates[:2])
        for gate in gates:
            gate.open.set()
        await _enter(gates)
        assert pool.size == 2
    assert "no more than 2 interpreters could be started: no more" in caplog.text
    assert factory.refused == 1


async def test_one_that_is_being_started_at_the_end_ends_too(factory: FakeFactory) -> None:
    starting = Gate()

    def create() -> FakeInterpreter:
        if len(factory.made) == 2:
            starting()
        return factory()

    async with open_interpreter_pool(3, create=create) as pool, trio.open_nursery() as nursery:
        gates = await _gates(pool, 3, nursery)
        await starting.wait_entered()
        for gate in gates:
            gate.open.set()
        await _enter(gates)
        nursery.start_soon(trio.to_thread.run_sync, starting.open.set)
    assert len(factory.made) == 3
    assert all(made.closed.is_set() for made in factory.made)
