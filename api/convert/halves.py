r"""Half of a surrogate pair in a JSON text, ``"\ud800"``: no character, but what is left of an emoji cut in two.

JSON's grammar has it, and some languages write it; msgspec says no more than that the body was truncated.
"""

import json
import re
from typing import Any, Final

_WRITTEN: Final = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # also where both halves are there
_HALF: Final = re.compile(r"[\ud800-\udfff]")


def find_half(body: bytes) -> tuple[str, str] | None:
    """Where the first one is, "" for a key of the whole, and how it is written; None where there is none."""
    if not _WRITTEN.search(body):
        return None
    try:
        return _find(json.loads(body), "")
    except (ValueError, RecursionError):  # no JSON in other ways as well
        return None


def _find(value: Any, path: str) -> tuple[str, str] | None:
    if isinstance(value, str):
        half = _HALF.search(value)
        return (path, f"\\u{ord(half[0]):04x}") if half else None
    inner: list[tuple[Any, str]] = []
    if isinstance(value, list):
        inner = [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    elif isinstance(value, dict):
        for key, item in value.items():
            inner += [(key, path), (item, f"{path}.{key}" if path else key)]
    return next(filter(None, (_find(item, where) for item, where in inner)), None)
