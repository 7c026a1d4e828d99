"""How long OpenMP's threads spin at a barrier, changed while they run.

GCC's libgomp reads its settings once, but looks at one thing at every wait (config/linux/wait.h, do_spin): while it has
more threads than there are processors, a waiting thread gives up after 100 rounds instead of GOMP_SPINCOUNT. So a team
that does nothing is enough to have all others wait politely, and its end to have them spin again.
"""

import ctypes
import os
import threading
from typing import Any, Final

_NO_FLAGS: Final = 0  # threads are bound, or not, as OMP_PROC_BIND says


class IdleTeam:
    """A team of OpenMP threads that sleeps. Not for use by several threads at once."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def exists(self) -> bool:
        """Whether it is there."""
        return self._thread is not None

    def start(self) -> None:
        """Have the team. Idempotent. Raises OSError where no native library has loaded libgomp."""
        if self._thread is not None:
            return
        parallel = _library().GOMP_parallel
        parallel.restype = None
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._end.clear()
        self._thread = threading.Thread(target=self._hold, args=(parallel,), name="llama-box idle team", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None

    def _hold(self, parallel: Any) -> None:
        # Any function of C that takes a pointer and does nothing with none.
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        parallel(nothing, None, self._n_threads, _NO_FLAGS)
        self._end.wait()  # libgomp ends the team with this thread


def _library() -> Any:
    """The libgomp that the native libraries use. Raises OSError where they have loaded none."""
    return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
