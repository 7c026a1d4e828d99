"""One sub-interpreter with its own GIL. The only module that knows which Python interface is below.

Python 3.14 has a public one (``concurrent.interpreters``), 3.13 only the private modules that it grew from.
What runs inside may import pure Python only: numpy, msgspec, Pillow and llguidance refuse sub-interpreters.
"""

import contextlib
import importlib
import pickle
import sys
import threading
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Protocol

import attrs

# CPython pickles and unpickles on both sides here, within one process: nothing foreign is ever loaded.
_PROTOCOL: Final = pickle.HIGHEST_PROTOCOL

# Python 3.13 cannot be trusted to create two at a time: now and then one of them fails ("interpreter creation failed",
# python/cpython issue 109700; seen on 16 cores, and there may be threads of other code that create some).
_creating: Final = threading.Lock()
_ATTEMPTS: Final = 3


class SubInterpreterError(Exception):
    """The interpreter itself failed: it could not be started, or broke down outside the job's own code."""


@attrs.frozen
class Outcome:
    """What a job ended with: a value, or the class name (``module:name``) and the text of an exception."""

    value: Any = None
    error: tuple[str, str] | None = None


class SubInterpreter(Protocol):
    """An interpreter that runs one job at a time. Any thread may call, never two at once."""

    def call(self, target: str, args: tuple[Any, ...]) -> Outcome:
        """Run ``package.module:function`` inside, blocking. Arguments and result are pickled.

        Raises SubInterpreterError if the interpreter fails, pickle's errors for what cannot be pickled.
        """

    def close(self) -> None:
        """End it. Not while a job runs. Idempotent."""


def serve(request: bytes) -> bytes:
    """The other end of ``call``: runs inside the sub-interpreter."""
    target, args = pickle.loads(request)  # noqa: S301 (see _PROTOCOL)
    try:
        return _dump(Outcome(value=_resolve(target)(*args)))
    except Exception as error:
        kind = type(error)
        return _dump(Outcome(error=(f"{kind.__module__}:{kind.__qualname__}", str(error))))


def _dump(outcome: Outcome) -> bytes:
    return pickle.dumps((outcome.value, outcome.error), _PROTOCOL)


def _load(answer: bytes) -> Outcome:
    value, error = pickle.loads(answer)  # noqa: S301 (see _PROTOCOL)
    return Outcome(value, error)


@lru_cache(maxsize=64)
def _resolve(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


# The path of a new interpreter is computed afresh; what the running program added to its own is missing there.
# On 3.13.0 the process aborts ("double free") when several interpreters that imported the C half of datetime end:
# interpreters get the pure half.
_BOOT: Final = """import sys
sys.path[:] = {path!r}
sys.modules["_datetime"] = None
from llamabox.subinterpreter import serve
"""


if sys.version_info >= (3, 14):
    from concurrent import interpreters

    class _Interpreter:
        def __init__(self) -> None:
            self._interpreter = _one_at_a_time(interpreters.create)
            try:
                self._interpreter.exec(_BOOT.format(path=sys.path))
            except interpreters.ExecutionFailed as error:
                self._interpreter.close()
                raise SubInterpreterError(str(error)) from error

        def call(self, target: str, args: tuple[Any, ...]) -> Outcome:
            request = pickle.dumps((target, args), _PROTOCOL)
            try:
                answer = self._interpreter.call(serve, request)
            except interpreters.ExecutionFailed as error:
                raise SubInterpreterError(str(error)) from error
            return _load(answer)

        def close(self) -> None:
            with contextlib.suppress(interpreters.InterpreterNotFoundError):
                self._interpreter.close()

else:
    import _interpqueues
    import _interpreters

    # The private modules take numbers: an unpickled item; and "unbound" stands in for an item whose maker is gone.
    _PLAIN: Final = 0
    _UNBOUND: Final = 2

    # Compiled once: as text each call would compile it anew, which takes twice as long as all the rest of the call.
    _SERVE: Final = compile(
        f"""import _interpqueues
_interpqueues.put(queue, serve(_interpqueues.get(queue)[0]), {_PLAIN}, {_UNBOUND})
""",
        "<serve>",
        "exec",
    )

    class _Interpreter:
        def __init__(self) -> None:
            self._id: int | None = _one_at_a_time(_interpreters.create)
            self._queue: int = _interpqueues.create(1, _PLAIN, _UNBOUND)
            try:
                self._exec(_BOOT.format(path=sys.path))
                _interpreters.set___main___attrs(self._id, {"queue": self._queue})
            except BaseException:
                self.close()
                raise

        def call(self, target: str, args: tuple[Any, ...]) -> Outcome:
            _interpqueues.put(self._queue, pickle.dumps((target, args), _PROTOCOL), _PLAIN, _UNBOUND)
            self._exec(_SERVE)
            return _load(_interpqueues.get(self._queue)[0])

        def _exec(self, code: str | types.CodeType) -> None:
            if self._id is None:
                raise SubInterpreterError("the interpreter is closed")
            failure = _interpreters.exec(self._id, code)
            if failure is not None:
                raise SubInterpreterError(failure.formatted)

        def close(self) -> None:
            if self._id is None:
                return
            interpreter, self._id = self._id, None
            _interpqueues.destroy(self._queue)
            _interpreters.destroy(interpreter)


def _one_at_a_time[T](create: Callable[[], T]) -> T:
    """What ``create`` gives, tried again where it fails. Raises SubInterpreterError."""
    with _creating:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return create()
            except Exception as error:
                if attempt == _ATTEMPTS:
                    raise SubInterpreterError(f"no interpreter could be created: {error}") from error
    raise AssertionError("there are attempts")


def create() -> SubInterpreter:
    """Start an interpreter, blocking (tens of milliseconds). Raises SubInterpreterError."""
    return _Interpreter()
