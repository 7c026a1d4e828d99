"""The teams of threads that compute: bound to processors, with a priority, and how long they spin."""

import ctypes
import os
from typing import Any, Final

from engine.errors import NativeError
from engine.native import library
from engine.native.options import ContextOptions, Placement

MOST_PROCESSORS: Final = 512  # GGML_MAX_N_THREADS
ROUNDS: Final = 1024 * 128  # of spinning for each unit of polling, as in the library's own pool
DEFAULT_POLL: Final = 50  # the library's

_CPU_TYPE: Final = 0
# Real-time priorities by which the library makes good its levels 1 to 3.
_REAL_TIME: Final = {1: 40, 2: 80, 3: 90}
_ALL: Final = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()


class _PoolParams(ctypes.Structure):
    """ggml_threadpool_params."""

    _fields_ = [  # ctypes wants a list
        ("cpumask", ctypes.c_bool * MOST_PROCESSORS),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    ]


def uses_openmp() -> bool:
    """Whether OpenMP's threads compute, rather than those of the library's own pools."""
    return b"OPENMP = 1" in library.start().llama_print_system_info()


def set_polling(units: int) -> None:
    """Let OpenMP's threads spin for so long. Without effect once the library is loaded."""
    os.environ["GOMP_SPINCOUNT"] = str(units * ROUNDS)
    os.environ.pop("OMP_WAIT_POLICY", None)  # it would decide otherwise


def unbind() -> None:
    """Give the calling thread back what it has inherited from a thread of a team: all processors, normal priority."""
    if not _ALL:
        return
    os.sched_setaffinity(0, _ALL)
    if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class ThreadPools:
    """The two teams of one context, as ``ContextOptions`` says; none where it says nothing.

    Used by the thread that decodes, which is a member of both teams.
    """

    def __init__(self, options: ContextOptions) -> None:
        self._placements = options.placement, options.placement_batch
        self._threads = options.n_threads, options.n_threads_batch
        self._pools: list[int] = []

    def attach(self, lib: Any, context: Any) -> None:
        """Have the context compute by these teams; they must live as long as it does."""
        if all(placement == Placement() for placement in self._placements):
            return
        new = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_PoolParams))(_procedure(b"ggml_threadpool_new"))
        for placement, threads in zip(self._placements, self._threads, strict=True):
            pool = new(_params(placement, threads))
            if not pool:
                raise NativeError(f"no team of {threads} threads could be made")
            self._pools.append(pool)
        attach = lib._lib.llama_attach_threadpool  # noqa: SLF001  # the binding lacks it
        attach.restype, attach.argtypes = None, [ctypes.c_void_p] * 3
        attach(ctypes.cast(context, ctypes.c_void_p), *self._pools)

    def before(self, n_tokens: int) -> None:
        """To be called before a decode of that many tokens: OpenMP leaves a team of one, the calling thread, alone."""
        batched = n_tokens > 1
        placement = self._placements[batched]
        if not self._pools or self._threads[batched] != 1:
            return
        if placement.processors:
            os.sched_setaffinity(0, placement.processors[:1] if placement.strict else placement.processors)
        if placement.priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_REAL_TIME[placement.priority]))

    def close(self) -> None:
        """End the teams, after the context that they compute for. Idempotent."""
        if not self._pools:
            return
        free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_procedure(b"ggml_threadpool_free"))
        while self._pools:
            free(self._pools.pop())


def _params(placement: Placement, threads: int) -> Any:
    params = _PoolParams(n_threads=threads, prio=placement.priority, strict_cpu=placement.strict)
    params.poll = DEFAULT_POLL if placement.poll is None else placement.poll
    for processor in placement.processors:
        params.cpumask[processor] = True
    return ctypes.byref(params)


def _procedure(name: bytes) -> int:
    """The address of a function of the CPU backend."""
    ggml = library.ggml()
    for index in range(ggml.dev_count()):
        device = ggml.dev_get(index)
        if ggml.dev_type(device) == _CPU_TYPE:
            address: int | None = ggml.reg_get_proc_address(ggml.dev_backend_reg(device), name)
            if address:
                return address
    raise NativeError(f"the CPU backend lacks {name.decode()}")
