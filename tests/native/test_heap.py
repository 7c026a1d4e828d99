"""Large blocks go back to the system when they are freed, others when that is asked for."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from engine.native import heap

# Frees 24 MiB twice: by then an untouched glibc keeps blocks of this size. Prints what is resident of it, in MiB.
_PROGRAM = """
import ctypes
{first}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
size = 24 << 20
for _ in range(2):
    blocks = [libc.malloc(size), libc.malloc(64)]  # the small one lies behind the large one in a heap
    ctypes.memset(blocks[0], 1, size)
    before = resident()
    libc.free(blocks[0])
print((before - resident()) >> 20)
"""
_OURS = "from engine.native.heap import return_large_blocks; return_large_blocks()"


def given_back(first: str, **environment: str) -> int:
    """MiB that the process no longer holds once it has freed 24 MiB."""
    command = [sys.executable, "-c", _PROGRAM.format(first=first)]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(command, env=plain | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_are_given_back() -> None:
    """They are with our setting, and would not be without."""
    assert given_back("") < 4
    assert given_back(_OURS) >= 23


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_users_value_wins() -> None:
    """Who has set the limit keeps it."""
    assert given_back(_OURS, MALLOC_MMAP_THRESHOLD_=str(32 << 20), MALLOC_TRIM_THRESHOLD_=str(1 << 30)) < 4


_SCATTERED = """
import ctypes
from engine.native.heap import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
size = 64 << 10
blocks = [libc.malloc(size) for _ in range(512)]
for block in blocks:
    ctypes.memset(block, 1, size)
for block in blocks[::2]:  # 16 MiB, none of them beside another
    libc.free(block)
before = resident()
give_back()
print((before - resident()) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_free_memory_between_blocks_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SCATTERED], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 12


def test_another_c_library_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    heap.give_back()
    heap.return_large_blocks()
