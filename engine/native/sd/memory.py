"""Reads memory of this process that may be none: an error where reading it directly would end the process. Linux."""

import ctypes
import os
from typing import Final

POINTER: Final = ctypes.sizeof(ctypes.c_void_p)


def read_pointer(address: int) -> int | None:
    """The pointer at ``address``; None where no memory is, or where memory cannot be read safely (not on Linux)."""
    raw = read_memory(address, POINTER)
    return int.from_bytes(raw, "little") if raw is not None else None


def read_memory(address: int, size: int) -> bytes | None:
    """``size`` bytes at ``address``; None as above."""
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = os.pread(memory, size, address)
    except (OSError, OverflowError):
        return None
    finally:
        os.close(memory)
    return raw if len(raw) == size else None
