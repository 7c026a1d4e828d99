"""llguidance's error messages as one line for who wrote the grammar."""

import re
from typing import Final

_MOST_CHARACTERS: Final = 400
_MOST_READ: Final = 4000  # a message may quote the whole grammar
_DETAILS: Final = ("<state>", "<backtrace>", "<non-verbose/>")
_QUOTED_SOURCE: Final = re.compile(r" *\d+ \| ")
# Whoever sent a schema knows nothing of the grammar that it stands in.
_IN_SCHEMA: Final = ("failed to compile JSON schema: ", 'failed to parse "%json": ')
_NO_WAY: Final = "NoExtension"


def readable(error: str) -> str:
    """What is wrong, without the quoted source, the parser's state and native backtraces."""
    text = error[:_MOST_READ]
    for mark in _DETAILS:
        text = text.partition(mark)[0]
    lines = [line for line in text.splitlines() if not _QUOTED_SOURCE.match(line) and line.strip() != "^"]
    text = " ".join(" ".join(lines).split()).removeprefix("panic: ")
    for mark in _IN_SCHEMA:
        _, found, reason = text.partition(mark)
        text = f"JSON schema: {reason}" if found else text
    if text.startswith(_NO_WAY):
        return "no text matches it"
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
