"""A started engine for the tests of the bridge: its thread runs the fake backend, decode by decode if need be."""

import threading
from collections.abc import AsyncIterator, Sequence
from math import inf

import trio
import trio.testing

from engine.bridge import BridgedEngine
from engine.text.backend import Run
from engine.text.events import Event, Finished, FinishReason, Tokens
from engine.text.loop import EngineLoop, Publish, Started
from engine.text.requests import GenerationRequest
from engine.text.scheduler import Scheduler
from tests.engine.driver import limits_of, text_of
from tests.engine.fake_backend import FakeBackend, continuation

THREAD = "llama-box text engine"


class Rig:
    """A backend and how to start an engine on it. Call ``step_by_step`` to hold each decode until ``go``."""

    def __init__(self, **fields: object) -> None:
        self.backend = FakeBackend(**fields)
        self.scheduler = Scheduler(limits_of(self.backend), self.backend)
        self._go = threading.Semaphore(0)
        self._free = False
        self._deadly = False
        self._send, self._receive = trio.open_memory_channel[list[int]](inf)

    def start(self, publish: Publish) -> Started:
        return Started(self.backend, EngineLoop(self.backend, self.scheduler, publish, mask_threads=1, debug=True))

    def step_by_step(self) -> None:
        self.backend.before_decode = self._hold
        abort = self.backend.abort

        def abort_and_go() -> None:
            abort()
            self._go.release()

        self.backend.abort = abort_and_go  # type: ignore[method-assign]

    def deliver_before_each_decode(self) -> None:
        self.backend.before_decode = lambda runs: trio.from_thread.run_sync(lambda: None)

    def _hold(self, runs: Sequence[Run]) -> None:
        if not self._free:
            # All events of earlier steps are delivered when this has been.
            trio.from_thread.run_sync(self._send.send_nowait, [len(run.tokens) for run in runs])
            self._go.acquire()
            assert not self._deadly, "the fake library dies"

    async def at_decode(self) -> list[int]:
        """Wait until the thread is about to decode; the sizes of the runs."""
        with trio.fail_after(20):
            return await self._receive.receive()

    def go(self) -> None:
        self._go.release()

    async def step(self) -> list[int]:
        """Let one decode go and wait for the next."""
        self.go()
        return await self.at_decode()

    def die(self) -> None:
        """Let the held decode fail in a way that no engine survives."""
        self._deadly = True
        self._go.release()

    async def gone(self) -> None:
        """Wait until the thread has ended and the loop knows."""
        with trio.fail_after(20):
            while engine_threads():
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()

    def let_run(self) -> None:
        self._free = True
        self._go.release()

    def check_over(self) -> None:
        """The engine has ended and left nothing behind."""
        assert not engine_threads()
        assert self.backend.closed
        assert all(sampler.closed for sampler in self.backend.samplers)
        assert not self.scheduler.running
        assert not self.scheduler.waiting
        assert self.scheduler.cells_active == 0
        self.scheduler.check_integrity()


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def ask(request_id: str, prompt: str = "hello", max_tokens: int = 5, **fields: object) -> GenerationRequest:
    return GenerationRequest(id=request_id, prompt=list(prompt.encode()), max_tokens=max_tokens, **fields)


def text(events: Sequence[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Tokens | Finished))


def expected(request: GenerationRequest) -> str:
    assert request.max_tokens is not None
    return text_of(continuation(request.prompt, request.max_tokens))


async def read_all(events: AsyncIterator[Event]) -> list[Event]:
    with trio.fail_after(20):
        return [event async for event in events]


async def generate(engine: BridgedEngine, request: GenerationRequest) -> list[Event]:
    async with engine.generate(request) as events:
        return await read_all(events)


def check_complete(events: Sequence[Event], request: GenerationRequest) -> None:
    assert [type(e) for e in events[:-1]] == [Tokens] * (len(events) - 1)
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LIMIT
    assert text(events) == expected(request)
