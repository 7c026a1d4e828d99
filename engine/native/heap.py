"""How the C library's heap treats large blocks."""

import ctypes
import os
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # of mallopt, see malloc.h
_BYTES: Final = 4 * 1024 * 1024  # above what a step of the engine allocates, below what the start needs for a moment


def return_large_blocks() -> None:
    """Have freed blocks of 4 MiB and more go back to the system at once, where the C library can (glibc). Idempotent.

    Left alone, glibc raises this limit to the largest block that was freed so far (32 MiB at most) and keeps smaller
    ones: 30 MiB of what reading a vocabulary needs for a moment stayed with the process. A value that the user has set
    wins.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; no handle of the own process (Windows)
        return
    mallopt(_M_MMAP_THRESHOLD, _BYTES)
