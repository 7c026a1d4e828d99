"""The committed pages are what the code says today."""

from pathlib import Path

import pytest

from cli.option import Option, Section
from cli.options import OPTIONS
from tools.docs.__main__ import PAGES
from tools.docs.options import options_page

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", PAGES)
def test_a_committed_page_is_not_stale(path: str) -> None:
    committed = (ROOT / path).read_text(encoding="utf-8")
    assert committed == PAGES[path](), "run `python -m tools.docs` and commit what it writes"


def test_every_spelling_and_variable_is_on_the_page() -> None:
    lines = options_page().splitlines()
    for option in OPTIONS:
        (row,) = [line for line in lines if line.startswith(f"| `{(*option.flags, *option.off)[0]}`")]
        assert all(f"`{name}`" in row for name in (*option.flags, *option.off, *option.env))


def test_a_row_stays_one_row() -> None:
    option = Option(section=Section.SERVER, flags="--odd", metavar="a|b", help="x | y\nz <b>*", default="\\n")
    *_, row = options_page([option]).splitlines()
    assert row == r"| `--odd` |  | \\n |  | x \| y z &lt;b>\* |"
