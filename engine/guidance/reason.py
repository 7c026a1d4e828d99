"""llguidance's error messages as one line for who wrote the grammar."""

import re
from typing import Final

_MOST_CHARACTERS: Final = 400
_DETAILS: Final = re.compile(r"\n*<(?:state|backtrace|non-verbose/).*", re.DOTALL)
_QUOTED_SOURCE: Final = re.compile(r"^\s*(?:\d+ \|.*|\^\s*)$", re.MULTILINE)
# Whoever sent a schema knows nothing of the grammar that it stands in.
_IN_SCHEMA: Final = re.compile(r".*?failed to (?:compile JSON schema|parse \"%json\"): ", re.DOTALL)


def readable(error: str) -> str:
    """What is wrong, without the quoted source, the parser's state and native backtraces."""
    text = _IN_SCHEMA.sub("JSON schema: ", _DETAILS.sub("", error), count=1)
    text = " ".join(_QUOTED_SOURCE.sub("", text).split())
    text = text.removeprefix("panic: ")
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
