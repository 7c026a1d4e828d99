"""What happens instead of a bare SIGABRT when the native library gives up.

The library calls ``abort`` where it can go on no further: a failed assertion, an RPC server that is gone. Its callback
runs first, on the thread that fails; as long as it does not return the process lives. So the thread stays here for
ever, and whoever is told has the time to say goodbye before ending the process.
"""

import atexit
import ctypes
import logging
import os
import re
import threading
from collections.abc import Callable
from typing import Any, Final

from engine.native import library
from engine.native.ggml import FindFunction

log: Final = logging.getLogger(__name__)

type OnAbort = Callable[[str], None]
"""Gets the library's message. Runs on a thread of the library's; must see to it that the process ends."""

_SOURCE: Final = re.compile(r"^\S*?([^/\s]+:\d+): ")  # the build machine's directories
_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_FAILURE: Final = 70


class AbortGuard:
    """The one callback of a library in this process."""

    def __init__(self, find: FindFunction) -> None:
        """``find`` gives functions of the library's ggml, and loads it."""
        self._find = find
        self._on_abort: OnAbort | None = None
        self._callback: Any = None  # ctypes would free the trampoline of a callback that nobody holds

    def install(self, on_abort: OnAbort) -> None:
        """Have ``on_abort`` called from now on, in place of an earlier one. Loads the library."""
        self._on_abort = on_abort
        if self._callback is None:
            self._callback = _CALLBACK(self._aborted)
            set_callback = self._find("ggml_set_abort_callback", ctypes.c_void_p, [ctypes.c_void_p])
            set_callback(ctypes.cast(self._callback, ctypes.c_void_p))
            # The library's destructors run when no Python code can any more.
            atexit.register(set_callback, None)

    def _aborted(self, message: bytes | None) -> None:
        try:
            assert self._on_abort is not None, "there is no callback without one"
            self._on_abort(_SOURCE.sub(r"\1: ", (message or b"").decode("utf-8", "replace").strip()))
        except BaseException:
            log.exception("the end of the process failed")
            os._exit(_FAILURE)
        threading.Event().wait()


abort_guard: Final = AbortGuard(library.ggml_function)
"""llama.cpp's. A library has one callback per process, so there is one guard for each."""
