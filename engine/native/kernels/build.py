"""Compiles the products into shared libraries beside their sources: ``python -m engine.native.kernels.build``.

The compiler is ``$CXX``, else ``c++``. There is a library for every x86-64 processor with AVX2 and one for those with
AVX-512 and VNNI; a library's name tells the sources it was made of, so that one of other sources is never loaded.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
VARIANTS: Final = {
    "avx2": ("-mavx2",),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"),
}
"""Of the library, with what the compiler is told of the processor."""

_FLAGS: Final = ("-O3", "-std=c++17", "-mfma", "-mf16c", "-fPIC", "-shared", "-fvisibility-inlines-hidden")
_STEM: Final = "llamabox-kernels-"


def supported() -> bool:
    """Whether this system is one that the products are for."""
    return sys.platform == "linux" and platform.machine() in {"x86_64", "AMD64"}


def library(variant: str) -> Path:
    """Where the library of these sources is, or will be."""
    digest = hashlib.sha256(" ".join((*_FLAGS, *VARIANTS[variant])).encode())
    for source in sorted((*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return SOURCES / f"{_STEM}{variant}-{digest.hexdigest()[:12]}.so"


def build() -> list[Path]:
    """Compile the libraries, unless they are there, and remove older ones.

    Raises OSError or CalledProcessError without a compiler that can.
    """
    with ThreadPoolExecutor() as pool:
        libraries = list(pool.map(_build, VARIANTS))
    for old in SOURCES.glob(f"{_STEM}*.so"):
        if old not in libraries:
            old.unlink()
    return libraries


def _build(variant: str) -> Path:
    target = library(variant)
    if target.exists():
        return target
    compiler = os.environ.get("CXX", "c++").split()
    if shutil.which(compiler[0]) is None:
        raise FileNotFoundError(f"no C++ compiler: {compiler[0]}")
    unfinished = target.with_suffix(f".{os.getpid()}.part")
    flags = (*_FLAGS, *VARIANTS[variant])
    command = [*compiler, *flags, "-o", str(unfinished), *map(str, sorted(SOURCES.glob("*.cpp"))), "-ldl"]
    try:
        subprocess.run(command, check=True)  # noqa: S603  # the user's own compiler
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def main() -> int:
    """Exit status 1 where it should have worked and did not; llama.cpp's own products are used then."""
    if not supported():
        print("kernels: none for this system: llama.cpp's own are used")  # noqa: T201
        return 0
    try:
        print("kernels:", *(path.name for path in build()))  # noqa: T201
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"kernels: not compiled, llama.cpp's own are used: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
