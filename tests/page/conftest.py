"""A browser, and a server with everything that the page can show."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live.process import serving
from tests.models.tiny_mmproj import write_tiny_mmproj
from tests.models.tiny_sd import TinySd
from tests.page.browser import chromium, find_chromium
from tests.page.tab import PATIENCE, tab


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path, what = find_chromium()
    if path is None:
        pytest.skip(f"NO BROWSER, so the page was not tried in one: {what}")
    expect.set_options(timeout=PATIENCE)
    with chromium(path) as browser:
        yield browser


@pytest.fixture(scope="package")
def server(tiny_model: Path, tiny_sd: TinySd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    projector = write_tiny_mmproj(tmp_path_factory.mktemp("page-models") / "mmproj.gguf")
    with serving(
        "-m", str(tiny_model), "--alias", "tiny", "--mmproj", str(projector),
        "--image-model", str(tiny_sd.model), "--image-taesd-model", str(tiny_sd.taesd), "--image-niceness", "0",
        "--metrics", "--slots", "-np", "2", "-c", "1024",
    ) as (_, url):  # fmt: skip
        yield url


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    with tab(browser, server) as page:
        expect(page.locator("#model")).to_have_text("tiny, tiny-sd")
        yield page
