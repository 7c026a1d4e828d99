"""A model that need only be there, and settings made of arguments."""

from pathlib import Path

import pytest

from cli.build import build_settings
from cli.parse import read_arguments
from llamabox.settings import Settings


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Path of a file that may pass for a model until it is loaded."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    return str(path)


def build(model: str, *arguments: str) -> Settings:
    """The settings of a command line."""
    return build_settings(read_arguments(["-m", model, *arguments]))
