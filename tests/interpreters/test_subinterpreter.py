"""One interpreter: how it is created, and that it may be closed twice."""

import contextlib
import threading

import pytest
import trio

from llamabox import subinterpreter
from llamabox.subinterpreter import Outcome, SubInterpreterError


def test_a_closed_interpreter_closes_again_and_refuses() -> None:
    interpreter = subinterpreter.create()
    assert interpreter.call("builtins:len", ("ab",)) == Outcome(value=2)
    interpreter.close()
    interpreter.close()


class Creator:
    """Stands in for what creates interpreters, and notes what its callers do to it."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.calls = self.most_at_once = 0
        self._at_once = 0
        self._both = threading.Barrier(2)

    def __call__(self) -> int:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._both.wait(0.05)  # for another one, which must not come
        self._at_once -= 1
        self.calls += 1
        if self._failures:
            raise self._failures.pop(0)
        return self.calls


def test_a_failed_creation_is_tried_again() -> None:
    create = Creator(RuntimeError("interpreter creation failed"), RuntimeError("again"))
    assert subinterpreter._one_at_a_time(create) == 3


def test_creation_fails_in_the_end() -> None:
    create = Creator(*[RuntimeError(f"attempt {number}") for number in range(9)])
    with pytest.raises(SubInterpreterError, match="attempt 2"):
        subinterpreter._one_at_a_time(create)
    assert create.calls == 3


async def test_interpreters_are_created_one_at_a_time() -> None:
    """Python 3.13 fails now and then where two are."""
    create = Creator()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(trio.to_thread.run_sync, subinterpreter._one_at_a_time, create)
    assert create.calls == 2
    assert create.most_at_once == 1
