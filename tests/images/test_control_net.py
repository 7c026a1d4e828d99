"""A ControlNet that acts, on a model of full size whose files are nearly all holes."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.native.sd.context import ImageContext
from engine.native.sd.image import RgbImage
from engine.native.sd.options import ImageModelOptions
from engine.native.sd.upscaler import canny
from tests.images.asking import gradient, params
from tests.models.sparse_sd1 import MEMORY, VERSION, write_sparse_sd1

type Make = Callable[..., RgbImage]


def available_memory() -> int:
    """Bytes; where the system does not say, what the machine has."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    if available_memory() < MEMORY:
        pytest.skip("NOT TESTED: a model with a ControlNet takes 4 GiB of memory")
    files = write_sparse_sd1(tmp_path_factory.mktemp("sd1"))
    context = ImageContext(
        ImageModelOptions(
            model=str(files.model), taesd=str(files.taesd), control_net=str(files.control_net), n_threads=2
        )
    )
    assert context.version == VERSION

    def make_image(**fields: object) -> RgbImage:
        made = context.generate(params(steps=1, **fields), lambda step, steps: None, lambda step, frame: None)
        assert made is not None
        return made.image

    yield make_image
    context.close()


def test_the_control_image_changes_the_picture_as_strongly_as_is_said(make: Make) -> None:
    plain, controlled = make(), make(control_image=gradient())
    weak = make(control_image=gradient(), control_strength=0.1)
    assert len({plain, controlled, weak}) == 3
    assert make(control_image=gradient(), control_strength=0.0) == plain
    assert make() == plain, "it leaves no trace"


def test_edges_are_another_control_image(make: Make) -> None:
    assert make(control_image=canny(gradient())) != make(control_image=gradient())
