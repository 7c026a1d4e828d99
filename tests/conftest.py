"""Settings for all tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.models.tiny_llm import write_tiny_llm

# CI must give the same answer each time: examples are derived from the test itself, and slow machines are no failure.
settings.register_profile(
    "deterministic",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama-architecture model of 570 KB with random weights."""
    return write_tiny_llm(tmp_path_factory.mktemp("models") / "tiny-llm.gguf")
