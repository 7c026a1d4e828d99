"""Write the pages. Run it in the project's root: ``.venv/bin/python -m tools.docs``."""

from pathlib import Path
from typing import Final

from tools.docs.coverage import coverage_page
from tools.docs.options import options_page

PAGES: Final = {"docs/options.md": options_page, "docs/coverage.md": coverage_page}


def main() -> None:
    for path, page in PAGES.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(page(), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
