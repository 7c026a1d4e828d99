"""Servers to fetch from, and what fetches."""

from collections.abc import AsyncIterator, Iterator

import pytest

from llamabox.models.download import Downloader, new_client
from tests.models_files.fake_hub import FakeHub, fake_hub
from tests.models_files.file_server import FileHandler, FileServer, file_server


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server(FileHandler, FileServer()) as running:
        yield running


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    from huggingface_hub import close_session

    with fake_hub() as running:
        yield running
        close_session()  # the server waits for its connections to end


@pytest.fixture
def delays() -> list[float]:
    """The pauses that were made, in seconds; none takes time."""
    return []


@pytest.fixture
async def downloader(delays: list[float]) -> AsyncIterator[Downloader]:
    async def pause(seconds: float) -> None:
        delays.append(seconds)

    async with new_client() as client:
        yield Downloader(client, pause)
