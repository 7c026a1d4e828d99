"""How the C library's heap gives memory back to the system, where the C library can (glibc)."""

import ctypes
import os
from typing import Any, Final

_M_MMAP_THRESHOLD: Final = -3  # of mallopt, see malloc.h
_BYTES: Final = 4 * 1024 * 1024  # above what a step of the engine allocates, below what the start needs for a moment


def return_large_blocks() -> None:
    """Have freed blocks of 4 MiB and more go back to the system at once. Idempotent.

    Left alone, glibc raises this limit to the largest block that was freed so far (32 MiB at most) and keeps smaller
    ones: 30 MiB of what reading a vocabulary needs for a moment stayed with the process. A value that the user has set
    wins.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BYTES)


def give_back() -> None:
    """Have the system take what is free between blocks in use, page by page; any thread, some milliseconds.

    Left alone, that grew by some MiB in the first thousand requests: what is in use lies scattered.
    """
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Any | None:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library; no handle of the own process (Windows)
        return None
