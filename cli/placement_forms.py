"""Readers of the option values about devices and processors: endpoints, tensor overrides, processor masks."""

import os
import re
from typing import Final

from engine.native.rpc_probe import parse_endpoint

MOST_PROCESSORS: Final = 512  # what the engine's masks have room for


def endpoints(text: str) -> tuple[str, ...]:
    """``HOST:PORT`` by comma, each once."""
    found = tuple(str(parse_endpoint(part)) for part in text.split(","))
    if len(set(found)) < len(found):
        raise ValueError(text)
    return found


def overrides(text: str) -> tuple[tuple[str, str], ...]:
    """``PATTERN=BUFFER_TYPE`` by comma; the last = of each parts the two."""
    return tuple(_override(part) for part in text.split(","))


def _override(text: str) -> tuple[str, str]:
    pattern, _, buffer_type = text.rpartition("=")
    # The library's expressions know no other groups than these.
    if not pattern or not buffer_type.strip() or re.search(r"\(\?(?![:=!])", pattern) or "\0" in text:
        raise ValueError(text)
    try:
        re.compile(pattern)
    except re.error:
        raise ValueError(text) from None
    return pattern, buffer_type.strip()


def no_reserve(text: str) -> int:
    """Zero MiB."""
    if not re.fullmatch(r"\s*0+\s*", text):
        raise ValueError(text)
    return 0


def cpu_mask(text: str) -> tuple[int, ...]:
    """The processors whose bits are set in a hexadecimal number, with or without 0x."""
    digits = text.strip().lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]+", digits):
        raise ValueError(text)
    mask = int(digits, 16)
    if not 0 < mask < 1 << MOST_PROCESSORS:
        raise ValueError(text)
    return tuple(number for number in range(mask.bit_length()) if mask >> number & 1)


def cpu_range(text: str) -> tuple[int, ...]:
    """``FIRST-LAST``; without FIRST from the first, without LAST to the last processor of this machine."""
    match = re.fullmatch(r"\s*([0-9]{0,4})-([0-9]{0,4})\s*", text)
    if match is None or not (match[1] or match[2]):
        raise ValueError(text)
    first = int(match[1] or 0)
    last = int(match[2]) if match[2] else max(first, (os.cpu_count() or 1) - 1)
    if not first <= last < MOST_PROCESSORS:
        raise ValueError(text)
    return tuple(range(first, last + 1))
