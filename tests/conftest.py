"""Settings for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.models.tiny_llm import write_tiny_llm
from tests.models.tiny_sd import TinySd, write_tiny_sd

# CI must give the same answer each time: examples are derived from the test itself, and slow machines are no failure.
settings.register_profile(
    "deterministic",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")

# Workers run beside each other: threads that spin at a barrier take the cores from those they wait for. To be set
# before the native library is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_MOST_WORKERS = 4  # each holds models, servers and a browser of its own
_LONGEST = ("tests/live", "tests/page")


def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means."""
    return min(_MOST_WORKERS, os.process_cpu_count() or 1)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """A file's tests run on one worker, for they share servers, and files in the order of the collection."""
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left with them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama-architecture model of 570 KB with random weights."""
    return write_tiny_llm(tmp_path_factory.mktemp("models") / "tiny-llm.gguf")


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> TinySd:
    """An image model of 9 MB with random weights, with its LoRA and upscalers."""
    return write_tiny_sd(tmp_path_factory.mktemp("image-models"))
