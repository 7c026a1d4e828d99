"""The kinds of our own operations that this processor can run, and tests of each of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.native.kernels import build, load

PROCESSOR = set(Path("/proc/cpuinfo").read_text(errors="replace").split()) if build.supported() else set()
HAS_AVX2 = "avx2" in PROCESSOR
HERE = [variant for variant in build.VARIANTS if variant == "avx2" or PROCESSOR >= load.AVX512]

needs_avx2 = pytest.mark.skipif(not HAS_AVX2, reason="these operations are for x86 processors with AVX2, on Linux")


def each_variant(attach: Callable[[], load.Kernels]) -> Any:
    """A fixture: the tests of a module run with each kind, also where the library's own are used by default."""

    @pytest.fixture(scope="module", autouse=True, params=HERE)
    def attached(request: pytest.FixtureRequest) -> Iterator[None]:
        attach()  # the libraries remember what they began with
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(load.VARIABLE, request.param)
            assert attach().variant == (request.param if HAS_AVX2 else None)
            yield
        attach()

    return attached
