"""Interpreters that are none, and jobs that wait to be let go."""

import threading
from collections.abc import Callable
from typing import Any

import trio

from llamabox.subinterpreter import Outcome, SubInterpreterError


class FakeInterpreter:
    """Runs jobs that are callables, in the calling thread; remembers what was done to it."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = threading.Event()

    def call(self, target: str, args: tuple[Any, ...]) -> Outcome:
        assert not self.closed.is_set(), "a closed interpreter got a job"
        self.calls += 1
        function: Callable[[], Any] = args[0]
        return Outcome(value=function())

    def close(self) -> None:
        self.closed.set()


class FakeFactory:
    def __init__(self, most: int = 99) -> None:
        self.made: list[FakeInterpreter] = []
        self.refused = 0
        self._most = most

    def __call__(self) -> FakeInterpreter:
        if len(self.made) == self._most:
            self.refused += 1
            raise SubInterpreterError("no more")
        self.made.append(FakeInterpreter())
        return self.made[-1]


class Gate:
    """A job that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.open.wait(30), "nobody opened the gate"
        return "through"

    async def wait_entered(self) -> None:
        await trio.to_thread.run_sync(self.entered.wait, 30)
