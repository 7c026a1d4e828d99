"""The library's log lines, progress and previews, given to whom they concern.

It has one callback of each kind per process and calls it on the thread that called into it (a few log lines excepted,
which come from threads that load weights). So there is one router, which knows which thread works for whom.
"""

import atexit
import contextlib
import ctypes
import logging
import threading
from collections.abc import Iterator
from typing import Any, Final, Protocol

from engine.native.sd.image import RgbImage
from engine.native.sd.options import Preview

logger: Final = logging.getLogger("stable-diffusion.cpp")

_DEBUG, _INFO, _WARN, _ERROR = range(4)
# The library is talkative: what it calls info is for those who debug it.
_LEVELS: Final = {_DEBUG: logging.DEBUG, _INFO: logging.DEBUG, _WARN: logging.WARNING, _ERROR: logging.ERROR}
_MOST_ERRORS: Final = 32
_CHANNELS: Final = 3


class Listener(Protocol):
    """Hears what a call into the library says. Its methods run inside the call, on its thread, and must not raise."""

    def log_line(self, line: str) -> None:
        """A line of the log, without the place in the source that said it."""

    def progress(self, step: int, steps: int) -> None:
        """Something has done ``step`` of ``steps``: sampling, but also loading of weights, or tiles of a VAE."""

    def preview(self, step: int, frame: RgbImage) -> None:
        """A picture of a sampling step."""


class Call:
    """One call into the library, as the router sees it."""

    def __init__(self, listener: Listener | None, preview: Preview) -> None:
        self.listener = listener
        self.preview = preview
        self.errors: list[str] = []
        # The library formats its log in one static buffer: with two calls at once a line may be another call's.
        self.alone = True


class CallbackRouter:
    """The library's three callbacks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._module: Any = None
        self._callbacks: tuple[Any, ...] = ()  # ctypes would free the trampolines of callbacks that nobody holds

    def install(self, module: Any) -> None:
        """Take the callbacks of the library. Idempotent."""
        with self._lock:
            if self._module is not None:
                return
            self._module = module
            self._callbacks = (
                module.sd_log_callback(self._log),
                module.sd_progress_callback(self._progress),
                module.sd_preview_callback(self._preview),
            )
            module.sd_set_log_callback(self._callbacks[0], None)
            module.sd_set_progress_callback(self._callbacks[1], None)
            # The library may log from its destructors, when no Python code can run any more.
            atexit.register(module.sd_set_log_callback, None, None)

    @contextlib.contextmanager
    def calling(self, listener: Listener | None = None, preview: Preview = Preview.NONE) -> Iterator[Call]:
        """What this thread's calls say during the block goes to ``listener``; errors are collected in the result."""
        call, thread = Call(listener, preview), threading.get_ident()
        with self._lock:
            assert thread not in self._calls, "a call within a call"
            if self._calls:
                for other in (call, *self._calls.values()):
                    other.alone = False
            self._calls[thread] = call
            self._choose_preview()
        try:
            yield call
        finally:
            with self._lock:
                del self._calls[thread]
                self._choose_preview()

    def _choose_preview(self) -> None:
        """The mode is the process's, so it is the most that a running call wants; others get a larger picture."""
        if self._module is None:
            return
        mode = max((call.preview for call in self._calls.values()), key=lambda p: p.value, default=Preview.NONE)
        callback = None if mode is Preview.NONE else self._callbacks[2]
        self._module.sd_set_preview_callback(callback, mode.value, 1, True, False, None)

    # --- what the library calls: nothing may be raised into it ---

    def _mine(self) -> Call | None:
        return self._calls.get(threading.get_ident())

    def _log(self, level: int, text: bytes | None, _data: object) -> None:
        try:
            line = strip_place((text or b"").decode("utf-8", "replace").strip())
            if not line:
                return
            call = self._mine()
            if call is not None:
                if level == _ERROR and len(call.errors) < _MOST_ERRORS:
                    call.errors.append(line)
                if call.listener is not None:
                    call.listener.log_line(line)
            # Whoever calls reports the errors in its own words.
            quiet = call is not None and level == _ERROR
            logger.log(logging.DEBUG if quiet else _LEVELS.get(level, logging.DEBUG), "%s", line)
        except Exception:
            logger.exception("a log line was lost")

    def _progress(self, step: int, steps: int, _seconds: float, _data: object) -> None:
        try:
            call = self._mine()
            if call is not None and call.listener is not None:
                call.listener.progress(step, steps)
        except Exception:
            logger.exception("a progress report was lost")

    def _preview(self, step: int, count: int, frames: Any, _noisy: bool, _data: object) -> None:
        try:
            call = self._mine()
            if call is None or call.listener is None or call.preview is Preview.NONE or count < 1:
                return
            frame = copy_image(frames[0])
            if frame is not None:
                call.listener.preview(step, frame)
        except Exception:
            logger.exception("a preview was lost")


def copy_image(native: Any) -> RgbImage | None:
    """The pixels of an ``sd_image_t``; None where it has none, or not three channels."""
    width, height = native.width, native.height
    address = ctypes.cast(native.data, ctypes.c_void_p).value
    if not address or native.channel != _CHANNELS or not width or not height:
        return None
    return RgbImage(width=width, height=height, data=ctypes.string_at(address, width * height * _CHANNELS))


def strip_place(line: str) -> str:
    """A log line without the "file.cpp:123  - " in front of it."""
    place, separator, rest = line.partition(" - ")
    return rest.strip() if separator and ":" in place and " " not in place.strip() else line


router: Final = CallbackRouter()
"""The library has one callback of each kind, so there is one router."""


def explain(errors: list[str]) -> str:
    """The reason among the library's error lines: the first one, the others come from the callers that give up."""
    return errors[0] if errors else "the library gave no reason"
