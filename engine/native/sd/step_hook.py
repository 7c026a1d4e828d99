"""Stops a running image on any device, between two of its graphs: a step is one or two of them.

ggml computes a graph by a function in the table that each backend begins with. A function of ours takes its place and
answers "aborted" once it is told to, which the image library takes as it takes the abort of a processor.

Where the table has that function is the library's own affair, so the library is asked: a table of functions that only
tell their place is given to the function that computes a graph. And what is to be a backend is believed to be one only
if the device that it names is one of the library's: memory is read through the kernel (``engine.native.sd.memory``).
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final

import attrs

from engine.native.sd.memory import POINTER, read_pointer

_SLOTS: Final = 64  # pointers of a backend, more than any version has
_ABORTED: Final = 1  # ggml_status
_COMPUTE: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_NEEDED: Final = (
    "ggml_backend_graph_compute_async",
    "ggml_backend_get_device",
    "ggml_backend_dev_count",
    "ggml_backend_dev_get",
)


@attrs.frozen
class Layout:
    """Which pointer of a backend, counted from its beginning, is what."""

    compute: int  # computes a graph
    device: int


@functools.cache
def layout(lib: ctypes.CDLL) -> Layout | None:
    """That of the library's backends; None where it has another idea of them."""
    if not all(hasattr(lib, name) for name in _NEEDED):
        return None
    called: list[int] = []
    table = (ctypes.c_void_p * _SLOTS)()
    tellers = [_COMPUTE(_teller(called, place)) for place in range(_SLOTS)]
    for place, teller in enumerate(tellers):
        table[place] = ctypes.cast(teller, ctypes.c_void_p)
    compute = _function(lib, "ggml_backend_graph_compute_async", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    get_device = _function(lib, "ggml_backend_get_device", ctypes.c_void_p, ctypes.c_void_p)
    compute(ctypes.addressof(table), None)
    device = get_device(ctypes.addressof(table))
    if len(called) != 1 or device not in table:
        return None
    return Layout(called[0], list(table).index(device))


def _teller(called: list[int], place: int) -> Callable[[int, int], int]:
    def tell(_backend: int, _graph: int) -> int:
        called.append(place)
        return 0

    return tell


def _function(lib: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """One of the library's that others have bound in their own way, or not at all."""
    return ctypes.cast(getattr(lib, name), ctypes.CFUNCTYPE(result, *arguments))


class StepHook:
    """Satisfies ``engine.native.sd.abort.Canceller``. Stays in its backend's table for as long as that lives."""

    def __init__(self, slot: int, compute: int) -> None:
        """``slot``: the address of the pointer to the function ``compute``."""
        self._compute = _COMPUTE(compute)
        self._armed = self._aborting = False
        self._own = _COMPUTE(self._between)
        ctypes.c_void_p.from_address(slot).value = ctypes.cast(self._own, ctypes.c_void_p).value

    def _between(self, backend: int, graph: int) -> int:
        if self._armed and self._aborting:
            return _ABORTED
        status: int = self._compute(backend, graph)
        return status

    def arm(self) -> None:
        """See Canceller."""
        self._armed = True

    def disarm(self) -> None:
        """See Canceller."""
        self._armed = False

    def abort(self) -> None:
        """See Canceller."""
        self._aborting = True

    def clear(self) -> None:
        """See Canceller."""
        self._aborting = False


def step_hook_for(lib: ctypes.CDLL, owner: int) -> StepHook | None:
    """The hook for an object that points to one whose first member is its backend; None where that is none."""
    found = layout(lib)
    inner = read_pointer(owner)
    backend = read_pointer(inner) if inner else None
    if found is None or not backend:
        return None
    device = read_pointer(backend + POINTER * found.device)
    compute = read_pointer(backend + POINTER * found.compute)
    if not device or not compute or device not in _devices(lib):
        return None
    return StepHook(backend + POINTER * found.compute, compute)


def _devices(lib: ctypes.CDLL) -> set[int]:
    count = _function(lib, "ggml_backend_dev_count", ctypes.c_size_t)
    get = _function(lib, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return {get(index) for index in range(count())}
