"""Stops a running image.

The packaged library has no function for that, but ggml's CPU backend asks an abort callback between the nodes of a
graph; other devices are stopped between graphs (``engine.native.sd.step_hook``). The context keeps its backend at a
private place, so that place is checked before it is believed: what lies there must begin with the identifier that only
CPU backends begin with. Memory is read through the kernel, which answers with an error where the library's layout is
another and the place is no memory.

An abort while the prompt is being encoded ends the process in an assertion: the callback is armed only afterwards.
"""

import ctypes
from typing import Any, Final, Protocol

from engine.native.sd import library
from engine.native.sd.memory import read_pointer
from engine.native.sd.step_hook import step_hook_for

_CANCEL_ALL: Final = 0  # sd_cancel_mode_t
_CANCEL_RESET: Final = 2
# ggml calls back thousands of times: libc's strlen of a two-byte buffer needs no interpreter.
_HOOK_FUNCTIONS: Final = ("ggml_backend_cpu_init", "ggml_backend_free", "ggml_backend_cpu_set_abort_callback")


class Canceller(Protocol):
    """Stops the call that a context is busy with."""

    def arm(self) -> None:
        """From here on an abort is safe. Called by the thread that generates, within the call."""

    def disarm(self) -> None:
        """The call is over."""

    def abort(self) -> None:
        """Stop the running call, or once it is armed. Any thread; stays set until ``clear``."""

    def clear(self) -> None:
        """Let calls run again. Any thread."""


class AbortHook:
    """The CPU backend's abort callback."""

    def __init__(self, set_callback: Any, backend: int) -> None:
        self._set_callback = set_callback
        self._backend = backend
        self._flag = ctypes.create_string_buffer(2)
        self._strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)

    def arm(self) -> None:
        """See Canceller."""
        self._set_callback(self._backend, self._strlen, ctypes.cast(self._flag, ctypes.c_void_p))

    def disarm(self) -> None:
        """See Canceller."""
        self._set_callback(self._backend, None, None)

    def abort(self) -> None:
        """See Canceller."""
        self._flag[0] = b"\1"

    def clear(self) -> None:
        """See Canceller."""
        self._flag[0] = b"\0"


class NativeCancel:
    """``sd_cancel_generation``, which later libraries have. It may be called at any time."""

    def __init__(self, cancel: Any, context: int) -> None:
        self._cancel = cancel
        self._context = context

    def arm(self) -> None:
        """Nothing to do: the library looks at its flag where it can stop."""

    def disarm(self) -> None:
        """Nothing to do."""

    def abort(self) -> None:
        """See Canceller."""
        self._cancel(self._context, _CANCEL_ALL)

    def clear(self) -> None:
        """See Canceller."""
        self._cancel(self._context, _CANCEL_RESET)


def canceller_for(lib: ctypes.CDLL, context: int) -> Canceller | None:
    """What can stop a call of the context at address ``context``; None: nothing can, the call has to end by itself."""
    if library.has(lib, "sd_cancel_generation"):
        return NativeCancel(lib.sd_cancel_generation, context)
    return hook_for(lib, context)


def hook_for(lib: ctypes.CDLL, owner: int) -> Canceller | None:
    """The hook for an object that points to one whose first member is its backend; None where that is none."""
    return processor_hook_for(lib, owner) or step_hook_for(lib, owner)


def processor_hook_for(lib: ctypes.CDLL, owner: int) -> AbortHook | None:
    """The same for a CPU's backend only."""
    if not all(library.has(lib, name) for name in _HOOK_FUNCTIONS):
        return None
    inner = read_pointer(owner)
    backend = read_pointer(inner) if inner else None
    if not backend:
        return None
    sample = lib.ggml_backend_cpu_init()
    if not sample:
        return None
    try:
        is_cpu = read_pointer(sample) is not None and read_pointer(backend) == read_pointer(sample)
    finally:
        lib.ggml_backend_free(sample)
    return AbortHook(lib.ggml_backend_cpu_set_abort_callback, backend) if is_cpu else None
