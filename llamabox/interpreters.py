"""The pool of warm sub-interpreters that takes CPU-bound Python off the event loop and off its GIL."""

import builtins
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import attrs
import trio

from llamabox import subinterpreter
from llamabox.subinterpreter import Outcome, SubInterpreter, SubInterpreterError

logger = logging.getLogger(__name__)

DEFAULT_TIME_LIMIT: Final = 10.0  # seconds
# What a pool begins with. Each takes 11 MB and a fifth of a second, so more are started only when they are missed.
FIRST_SEATS: Final = 2
# How long closing waits for a job that still runs, seconds. It is left behind then: its thread is a daemon.
CLOSE_GRACE: Final = 1.0

type Create = Callable[[], SubInterpreter]


class JobError(Exception):
    """Base of what the pool itself reports."""


@attrs.frozen(slots=False)
class JobFailedError(JobError):
    """The job raised an exception of a class that the pool was not told about (``module:name``)."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class JobTimeoutError(JobError):
    """The job did not end within its time limit; its interpreter is written off."""


class PoolUnavailableError(JobError):
    """The pool is closed, or it has written off so many interpreters that none is left."""


@attrs.define(eq=False)
class _Job:
    target: str
    args: tuple[Any, ...]
    time_limit: float
    done: trio.Event = attrs.field(factory=trio.Event)
    outcome: Outcome | JobError | None = None

    def finish(self, outcome: Outcome | JobError) -> None:
        self.outcome = outcome
        self.done.set()


@attrs.define(eq=False)
class _Seat:
    """One place of the pool: an interpreter and the thread call that may be running in it."""

    interpreter: SubInterpreter
    abandoned: bool = False  # the running job's thread ends the interpreter, nobody else touches it
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    running: bool = False
    _result: Outcome | Exception | None = None

    def run(self, target: str, args: tuple[Any, ...]) -> Outcome | Exception:
        """Run a job in the calling thread; ends the interpreter if it was abandoned meanwhile or broke down."""
        self.running, self._result = True, None
        result: Outcome | Exception
        try:
            result = self.interpreter.call(target, args)
        except Exception as error:
            result = error
        with self._lock:
            self.running, self._result = False, result
            lost = self.abandoned or isinstance(result, SubInterpreterError)
        if lost:
            self.interpreter.close()
        return result

    def take(self) -> Outcome | Exception | None:
        """The result of the last job, once; None: it never began, or still runs and is abandoned from now on."""
        with self._lock:
            self.abandoned = self.running
            result, self._result = self._result, None
            return result


class InterpreterPool:
    """Interpreters, each served by one task; jobs go to whichever is free, first come first served.

    A job that finds none free has another one started, up to ``size``, and takes whichever is free first.
    """

    def __init__(
        self,
        size: int,
        warm: tuple[Any, ...] | None,
        known: Iterable[type[Exception]],
        write_offs: int,
        create: Create,
    ) -> None:
        self.size = size
        self._warm = [warm] if warm else []
        self._known = {f"{kind.__module__}:{kind.__qualname__}": kind for kind in known}
        self._max_write_offs = write_offs
        self._create = create
        self._seats: set[_Seat] = set()
        self._lost: list[_Seat] = []
        self._places = 0  # seats, those that are being started or replaced among them
        self._jobs = 0  # that run or wait
        self._growing = False
        self._nursery: trio.Nursery | None = None
        # Its own limiter: a written-off interpreter keeps its thread for as long as it is stuck.
        self._limiter = trio.CapacityLimiter(2 * size + write_offs)
        self._send, self._receive = trio.open_memory_channel[_Job](0)

    @property
    def written_off(self) -> int:
        """Interpreters lost since the start, to jobs that did not end or by breaking down."""
        return len(self._lost)

    @property
    def stuck(self) -> int:
        """Written-off interpreters whose job still runs.

        Python code in them ends with the process, but the interpreter's own exit waits for a C function that does
        not return: whoever ends the process then has to use ``os._exit``.
        """
        return sum(seat.running for seat in self._lost)

    async def run(self, target: str, *args: Any, time_limit: float = DEFAULT_TIME_LIMIT) -> Any:
        """Run ``package.module:function`` in a free interpreter; arguments and result are pickled.

        Cancelled while queued, the job never starts. Cancelled while running, the caller leaves at once and the
        interpreter finishes the job for nobody before it takes the next.

        Raises the job's own exception where its class is a builtin or was given as known, JobFailedError otherwise;
        JobTimeoutError after ``time_limit`` seconds of running; PoolUnavailableError when no interpreter is left.
        """
        job = _Job(target, args, time_limit)
        self._jobs += 1
        self._grow_when_busy()
        try:
            await self._send.send(job)
        except trio.Cancelled:
            self._jobs -= 1
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._jobs -= 1
            raise PoolUnavailableError("no interpreter is left to run this") from None
        await job.done.wait()
        match job.outcome:
            case Outcome(value=value, error=None):
                return value
            case Outcome(error=(kind, message)):
                raise self._error(kind, message)
            case JobError() as error:
                raise error
            case unexpected:
                raise AssertionError(f"a finished job has no outcome: {unexpected!r}")

    async def prepare(self, target: str, *args: Any, time_limit: float = DEFAULT_TIME_LIMIT) -> None:
        """Run a job in each interpreter, also in those that are started later. Raises as ``run`` does."""
        errors: list[Exception] = []

        async def one() -> None:
            try:
                await self.run(target, *args, time_limit=time_limit)
            except Exception as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(self._places):  # each waiting interpreter takes one
                nursery.start_soon(one)
        if errors:
            raise errors[0]
        self._warm.append((target, *args))

    def _grow_when_busy(self) -> None:
        """Start one more interpreter if there are more jobs than interpreters."""
        if self._nursery and not self._growing and self._places < min(self._jobs, self.size):
            self._growing = True
            self._places += 1
            self._nursery.start_soon(self._grow)

    async def _grow(self) -> None:
        try:
            seat = await self._open_seat()
        except SubInterpreterError as error:
            self._give_up_place()
            logger.warning("no more than %d interpreters could be started: %s", self.size, error)
            return
        finally:
            self._growing = False
        self._grow_when_busy()
        await self._serve(seat)

    def _error(self, kind: str, message: str) -> Exception:
        module, _, name = kind.partition(":")
        known = getattr(builtins, name, None) if module == "builtins" else self._known.get(kind)
        if isinstance(known, type) and issubclass(known, Exception):
            with contextlib.suppress(TypeError):  # a builtin that takes more than a message
                return known(message)
        return JobFailedError(kind, message)

    async def _open_seat(self) -> _Seat:
        def start() -> _Seat:
            seat = _Seat(self._create())
            for target, *args in tuple(self._warm):
                outcome = seat.run(target, tuple(args))
                failure = outcome if isinstance(outcome, Exception) else outcome.error
                if failure is not None:
                    seat.interpreter.close()
                    raise SubInterpreterError(f"warming up failed: {failure}")
            return seat

        # Not abandoned on cancel: a half-started interpreter would stay behind.
        seat = await trio.to_thread.run_sync(start, limiter=self._limiter)
        self._seats.add(seat)
        return seat

    async def _open_seats(self) -> None:
        errors: list[SubInterpreterError] = []

        async def open_one() -> None:
            try:
                await self._open_seat()
            except SubInterpreterError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(self.size, FIRST_SEATS)):
                nursery.start_soon(open_one)
        if errors:
            raise errors[0]

    async def _serve(self, seat: _Seat) -> None:
        """The life of one place of the pool; replaces its interpreter when that is lost."""
        async for job in self._receive:
            try:
                healthy = await self._work(seat, job)
            finally:
                self._jobs -= 1
            if healthy:
                continue
            self._lose(seat)
            if self.written_off > self._max_write_offs:
                logger.error("%d interpreters were written off, no more are replaced", self.written_off)
                break
            try:
                seat = await self._open_seat()
            except SubInterpreterError as error:
                logger.error("a lost interpreter could not be replaced: %s", error)
                break
        self._give_up_place()

    def _give_up_place(self) -> None:
        """One place less, for good."""
        self._places -= 1
        self.size = self._places
        if not self._places:
            self._receive.close()  # those that wait, and those to come, get PoolUnavailableError

    async def _work(self, seat: _Seat, job: _Job) -> bool:
        """Run one job; False when the interpreter is lost."""
        try:
            with trio.move_on_after(job.time_limit):
                # abandon_on_cancel: no native call runs here, and nothing else can leave a stuck interpreter.
                await trio.to_thread.run_sync(
                    seat.run, job.target, job.args, abandon_on_cancel=True, limiter=self._limiter
                )
        except trio.Cancelled:
            if not self._settle(seat, job, PoolUnavailableError("the pool of interpreters is closing")):
                self._lose(seat)
            raise
        return self._settle(seat, job, JobTimeoutError(f"the job did not end within {job.time_limit:g} s"))

    def _settle(self, seat: _Seat, job: _Job, unfinished: JobError) -> bool:
        match seat.take():
            case Outcome() as outcome:
                job.finish(outcome)
                return True
            case None:
                if seat.abandoned:
                    logger.error("%s: %s; its interpreter is written off", job.target, unfinished)
                job.finish(unfinished)
                return not seat.abandoned
            case error:  # the interpreter broke down, or pickle refused the arguments before the job began
                job.finish(JobFailedError(type(error).__name__, str(error)))
                return not isinstance(error, SubInterpreterError)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["InterpreterPool"]:
        """Start the interpreters and serve; see ``open_interpreter_pool``."""
        failure: Exception | None = None
        try:
            await self._open_seats()
            async with trio.open_nursery() as nursery:
                self._nursery, self._places = nursery, len(self._seats)
                for seat in tuple(self._seats):
                    nursery.start_soon(self._serve, seat)
                try:
                    yield self
                except Exception as error:
                    failure = error  # raised again below, outside the nursery: it would come out in a group
                finally:
                    self._nursery = None
                    self._send.close()
                    nursery.cancel_scope.deadline = trio.current_time() + CLOSE_GRACE
            if failure is not None:
                raise failure
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._close_seats, limiter=self._limiter)

    def _lose(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        self._lost.append(seat)

    def _close_seats(self) -> None:
        for seat in self._seats:
            seat.interpreter.close()
        self._seats.clear()


def pool_size(threads: int) -> int:
    """The most interpreters for ``--threads-http``: the number itself, -1 the cores this process may use."""
    return threads if threads > 0 else os.process_cpu_count() or 1


def open_interpreter_pool(
    size: int,
    *,
    warm: tuple[Any, ...] | None = None,
    known: Iterable[type[Exception]] = (),
    write_offs: int = 8,
    create: Create = subinterpreter.create,
) -> AbstractAsyncContextManager[InterpreterPool]:
    """A pool of up to ``size`` interpreters, two of them started; leaving it ends them all.

    ``warm`` is (target, *args) of a job that each new interpreter runs once before it takes others. ``known`` are
    exception classes, each made from one message, that cross back as themselves. At most ``write_offs`` stuck
    interpreters are replaced; with the last one gone every job gets PoolUnavailableError.

    A job that still runs at the end gets a second; it is abandoned then, and its daemon thread ends the interpreter
    if the job ever does. Raises SubInterpreterError if an interpreter cannot be started or warmed up.
    """
    return InterpreterPool(size, warm, known, write_offs, create).opened()
