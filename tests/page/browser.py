"""A headless Chromium for the tests of the page."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tools.browser import kept

VARIABLE = "CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> tuple[str | None, str]:
    """Where a Chromium that starts is, or None; and what was tried, for a test that has to be skipped."""
    tried = []
    for place in _places():
        try:
            answer = subprocess.run([place, "--version"], capture_output=True, text=True, timeout=60)
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")
            continue
        if answer.returncode == 0:
            return place, answer.stdout.strip()
        tried.append(f"{place}: {answer.stderr.strip()[-200:]}")
    return None, f"{VARIABLE}, {', '.join(_NAMES)} on PATH, tools/browser.py: {'; '.join(tried) or 'none there'}"


def _places() -> Iterator[str]:
    if given := os.environ.get(VARIABLE):
        yield given
        return
    yield from filter(None, map(shutil.which, _NAMES))
    if (path := kept()).exists():
        yield str(path)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """The browser, ended with the block. Its sandbox needs rights that root in a container does not have."""
    sandbox = os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(path), chromium_sandbox=sandbox)
        try:
            yield browser
        finally:
            browser.close()
