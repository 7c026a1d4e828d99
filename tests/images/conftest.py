"""The tiny image model."""

import pytest

from tests.models.tiny_sd import TinySd, write_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> TinySd:
    """An image model of 9 MB with random weights, with its LoRA and upscalers."""
    return write_tiny_sd(tmp_path_factory.mktemp("image-models"))
