"""llama.cpp's and ggml's log lines as records of the Python logger "llama.cpp"."""

import atexit
import contextlib
import ctypes
import logging
import threading
from collections.abc import Iterator
from typing import Any, Final

logger: Final = logging.getLogger("llama.cpp")

_NONE, _DEBUG, _INFO, _WARN, _ERROR, _CONT = range(6)
# The library is talkative: what it calls info is for those who debug it.
_LEVELS: Final = {
    _NONE: logging.DEBUG,
    _DEBUG: logging.DEBUG,
    _INFO: logging.DEBUG,
    _WARN: logging.WARNING,
    _ERROR: logging.ERROR,
}
_MOST_ERRORS: Final = 32
_DETAILS: Final = (
    # A warning for each tensor of a LoRA whose weights are repacked in the model: it is slower there, not wrong.
    "cannot use buft",
    # One for each sequence of a decode that a cancelled request has aborted.
    "removing memory module entries for seq_id",
)


class LineJoiner:
    """Puts lines together from the pieces that the library logs; level CONT continues the line before."""

    def __init__(self) -> None:
        self._level = _INFO
        self._text = ""

    def feed(self, level: int, text: str) -> list[tuple[int, str]]:
        """The (library level, line) pairs that ``text`` completes; the lines carry no newline."""
        lines: list[tuple[int, str]] = []
        if level != _CONT:
            if self._text:
                lines.append((self._level, self._text))
            self._level, self._text = level, ""
        whole, newline, rest = (self._text + text).rpartition("\n")
        if newline:
            lines.extend((self._level, line) for line in whole.split("\n"))
        self._text = rest
        return [(line_level, line) for line_level, line in lines if line.strip()]


class NativeLog:
    """The sink of one process: forwards lines to ``logging`` and hands errors to those who collect them."""

    def __init__(self) -> None:
        self._joiner = LineJoiner()
        self._collectors: list[list[str]] = []
        self._lock = threading.Lock()
        self._callback: Any = None  # ctypes would free the trampoline of a callback that nobody holds

    def install(self, lib: Any) -> None:
        """Make the library log here. Idempotent."""
        if self._callback is not None:
            return
        self._callback = lib.llama_log_callback(self._receive)
        lib.llama_log_set(self._callback, None)  # sets ggml's callback too
        # The library may log from its destructors, when no Python code can run any more.
        silent = ctypes.cast(ctypes.CDLL(None).getpid, lib.llama_log_callback)
        atexit.register(lib.llama_log_set, silent, None)

    def add(self, lib: Any, set_callback: Any) -> None:
        """Make a library of the same family, whose logger ``set_callback`` sets, log here too; after ``install``."""
        assert self._callback is not None, "the main library comes first"
        set_callback(self._callback, None)
        atexit.register(set_callback, ctypes.cast(ctypes.CDLL(None).getpid, lib.llama_log_callback), None)

    def _receive(self, level: int, text: bytes | None, _user_data: object) -> None:
        with self._lock:
            lines = self._joiner.feed(level, (text or b"").decode("utf-8", "replace"))
            errors = [line for line_level, line in lines if line_level == _ERROR]
            collected = bool(self._collectors)
            for collector in self._collectors:
                collector.extend(errors[: _MOST_ERRORS - len(collector)])
        for line_level, line in lines:
            # Whoever collects errors reports them in its own words, or expects them (an abort, a full cache).
            quiet = (collected and line_level == _ERROR) or any(detail in line for detail in _DETAILS)
            logger.log(logging.DEBUG if quiet else _LEVELS.get(line_level, logging.DEBUG), "%s", line)

    @contextlib.contextmanager
    def collect_errors(self) -> Iterator[list[str]]:
        """A list that gets the error lines that any thread causes during the block (the first ones only).

        They are logged at DEBUG meanwhile.
        """
        errors: list[str] = []
        with self._lock:
            self._collectors.append(errors)
        try:
            yield errors
        finally:
            with self._lock:
                self._collectors = [collector for collector in self._collectors if collector is not errors]


native_log: Final = NativeLog()
"""The library has one logger per process, so there is one sink."""


def explain(errors: list[str]) -> str:
    """The reason among the library's error lines: the first one, the others come from the callers that give up."""
    if not errors:
        return "the library gave no reason"
    # "function: reason": the function's name says nothing to a user.
    reason = errors[0].partition(": ")[2] or errors[0]
    return (
        reason.removeprefix("error: ")
        .removeprefix("error loading model: ")
        .removeprefix("failed to initialize the context: ")
    )
