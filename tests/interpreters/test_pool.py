import subprocess
import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llamabox.chat.errors import TEMPLATE_ERRORS, TemplateError
from llamabox.interpreters import (
    JobFailedError,
    JobTimeoutError,
    PoolUnavailableError,
    open_interpreter_pool,
    pool_size,
)
from llamabox.subinterpreter import SubInterpreterError
from tests.interpreters.fakes import FakeFactory, Gate


def interpreter_count() -> int:
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        return len(interpreters.list_all())
    import _interpreters

    return len(_interpreters.list_all())


async def test_values_come_back_from_interpreters_that_stay_and_end_with_the_pool() -> None:
    before = interpreter_count()
    async with open_interpreter_pool(2, warm=("llamabox.chat.worker:warm_up",)) as pool:
        assert interpreter_count() == before + 2
        value = {"list": [1, None, "é\n", 2.5], "bytes": b"\0\xff"}
        assert await pool.run("copy:deepcopy", value) == value
        for _ in range(5):
            assert await pool.run("json:dumps", [1]) == "[1]"
        assert interpreter_count() == before + 2
    assert interpreter_count() == before


async def test_a_module_stays_imported_between_jobs() -> None:
    async with open_interpreter_pool(1) as pool:
        await pool.run("random:seed", 7)
        first = [await pool.run("random:random") for _ in range(2)]
        await pool.run("random:seed", 7)
        assert [await pool.run("random:random") for _ in range(2)] == first


async def test_errors_keep_their_class_where_it_is_known() -> None:
    async with open_interpreter_pool(1, known=TEMPLATE_ERRORS) as pool:
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run("builtins:int", "x")
        with pytest.raises(TemplateError, match="no, thanks"):
            await pool.run("llamabox.chat.functions:raise_exception", "no, thanks")
        with pytest.raises(JobFailedError, match=r"json\.decoder:JSONDecodeError: Expecting value"):
            await pool.run("json:loads", "x")
        with pytest.raises(JobFailedError):
            await pool.run("builtins:len", lambda: None)  # cannot be pickled
        with pytest.raises(TypeError, match="pickle"):
            await pool.run("threading:Lock")  # the result cannot be either
        assert await pool.run("builtins:len", "still there") == 11
        assert pool.written_off == 0


async def test_the_worker_module_loads_where_extensions_are_refused() -> None:
    async with open_interpreter_pool(1) as pool:
        with pytest.raises(ImportError):
            await pool.run("importlib:import_module", "msgspec._core")
        text = await pool.run(
            "llamabox.chat.worker:render",
            "{{ messages[0].content }}",
            {"messages": [{"role": "user", "content": "hello"}]},
        )
    assert text == "hello"


async def test_cancelled_while_queued_a_job_never_starts(factory: FakeFactory) -> None:
    gate = Gate()
    async with open_interpreter_pool(1, create=factory) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, "", gate)
        await gate.wait_entered()
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)
            await pool.run("", pytest.fail)
        assert scope.cancelled_caught
        gate.open.set()
        assert await pool.run("", lambda: 5) == 5
    assert factory.made[0].calls == 2


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_cancelled_while_running_the_caller_leaves_and_the_interpreter_stays(factory: FakeFactory) -> None:
    gate = Gate()
    async with open_interpreter_pool(1, create=factory) as pool:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.run, "", gate)
                await gate.wait_entered()
                scope.cancel()
        assert not gate.open.is_set()  # the caller left while the job was still running
        gate.open.set()
        assert await pool.run("", lambda: 5) == 5
        assert pool.written_off == 0
    assert len(factory.made) == 1
    assert factory.made[0].closed.is_set()


async def test_a_stuck_interpreter_is_written_off_and_replaced(factory: FakeFactory) -> None:
    gate = Gate()
    async with open_interpreter_pool(1, create=factory) as pool:
        with pytest.raises(JobTimeoutError):
            await pool.run("", gate, time_limit=0.01)
        assert await pool.run("", lambda: 5) == 5
        assert pool.written_off == 1
        assert pool.stuck == 1
        stuck, fresh = factory.made
        assert not stuck.closed.is_set()  # it runs: nobody may end it yet
        gate.open.set()
        assert await trio.to_thread.run_sync(stuck.closed.wait, 30)  # its own thread does when the job ends
        assert pool.stuck == 0
    assert fresh.closed.is_set()


async def test_write_offs_are_bounded(factory: FakeFactory) -> None:
    gates = [Gate() for _ in range(3)]
    async with open_interpreter_pool(1, create=factory, write_offs=1) as pool:
        for gate in gates[:2]:
            with pytest.raises(JobTimeoutError):
                await pool.run("", gate, time_limit=0.01)
        with pytest.raises(PoolUnavailableError):
            await pool.run("", gates[2], time_limit=0.01)
        assert len(factory.made) == 2
        for gate in gates:
            gate.open.set()
        for interpreter in factory.made:
            assert await trio.to_thread.run_sync(interpreter.closed.wait, 30)
    assert not gates[2].entered.is_set()


async def test_a_waiting_job_learns_that_the_last_interpreter_is_gone(factory: FakeFactory) -> None:
    gate = Gate()
    async with open_interpreter_pool(1, create=factory, write_offs=0) as pool, trio.open_nursery() as nursery:

        async def waits() -> None:
            with pytest.raises(PoolUnavailableError):
                await pool.run("", pytest.fail)

        async def gets_stuck() -> None:
            with pytest.raises(JobTimeoutError):
                await pool.run("", gate, time_limit=0.05)

        nursery.start_soon(gets_stuck)
        await gate.wait_entered()
        nursery.start_soon(waits)
    gate.open.set()
    assert await trio.to_thread.run_sync(factory.made[0].closed.wait, 30)


async def test_a_broken_interpreter_is_replaced(factory: FakeFactory) -> None:
    def breaks() -> None:
        raise SubInterpreterError("it broke")

    async with open_interpreter_pool(1, create=factory) as pool:
        with pytest.raises(JobFailedError, match="it broke"):
            await pool.run("", breaks)
        assert await pool.run("", lambda: 5) == 5
    assert [interpreter.closed.is_set() for interpreter in factory.made] == [True, True]


async def test_a_pool_that_cannot_start_ends_what_it_started() -> None:
    before = interpreter_count()
    with pytest.raises(SubInterpreterError, match="warming up failed"):
        async with open_interpreter_pool(2, warm=("builtins:int", "x")):
            pytest.fail("it opened")
    assert interpreter_count() == before


async def test_an_error_in_the_body_comes_out_as_itself(factory: FakeFactory) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_interpreter_pool(2, create=factory):
            raise KeyError("mine")
    assert all(interpreter.closed.is_set() for interpreter in factory.made)


async def test_after_the_end_jobs_are_refused(factory: FakeFactory) -> None:
    async with open_interpreter_pool(1, create=factory) as pool:
        pass
    with pytest.raises(PoolUnavailableError):
        await pool.run("", pytest.fail)


def test_pool_size() -> None:
    assert pool_size(3) == 3
    assert pool_size(-1) >= 1


CHILD = """
import time
import trio
from llamabox.interpreters import JobTimeoutError, open_interpreter_pool

async def main():
    async with open_interpreter_pool(2, warm=("llamabox.chat.worker:warm_up",)) as pool:
        assert await pool.run("builtins:len", "ab") == 2
        {stuck}
    print("end")

trio.run(main)
"""

STUCK = """
        try:  # endless Python code
            await pool.run("timeit:timeit", "pass", "pass", time.perf_counter, 10**15, time_limit=0.1)
        except JobTimeoutError:
            print("stuck", pool.stuck)
"""


@pytest.mark.parametrize(("stuck", "output"), [("", "end\n"), (STUCK.strip(), "stuck 1\nend\n")], ids=["idle", "stuck"])
def test_the_process_exits_cleanly(stuck: str, output: str) -> None:
    code = "import logging; logging.disable()\n" + CHILD.format(stuck=stuck)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, output, "")


def test_interpreters_that_know_dates_end_cleanly() -> None:
    code = """
from llamabox import subinterpreter
interpreters = [subinterpreter.create() for _ in range(3)]
for interpreter in interpreters:
    assert interpreter.call("datetime:date", (2026, 1, 2)).error is None
for interpreter in interpreters:
    interpreter.close()
print("end")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
