"""Filters and functions that model templates expect beyond Jinja's own."""

import json
import time
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from llamabox.chat.errors import TemplateError, TemplateLimitError

_MAX_INDENT: Final = 64
_MAX_DATE_FORMAT: Final = 200


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face templates expect it: no HTML escaping, generators become lists."""
    if (isinstance(indent, int) and indent > _MAX_INDENT) or (isinstance(indent, str) and len(indent) > _MAX_INDENT):
        raise TemplateLimitError(f"tojson: indent is larger than {_MAX_INDENT}")
    if isinstance(separators, list):
        separators = (separators[0], separators[1])
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=_plain
    )


def _plain(value: Any) -> list[Any]:
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"tojson: {type(value).__name__} has no JSON form")


def from_json(text: str) -> Any:
    """Parse JSON text. Raises ValueError."""
    return json.loads(text)


def raise_exception(message: Any) -> NoReturn:
    """How a template refuses its input."""
    raise TemplateError(str(message))


def strftime_now(pattern: str) -> str:
    """The local time, formatted."""
    if len(pattern) > _MAX_DATE_FORMAT or any(digit in pattern for digit in "0123456789"):
        raise TemplateLimitError("strftime_now: the pattern is too long or pads")
    return time.strftime(pattern)


def today() -> str:
    """The date in the form that Llama 3 templates use, e.g. "26 Jul 2024"."""
    return strftime_now("%d %b %Y")


def date_line() -> str:
    """The date in the form that FireFunction uses, e.g. "Jul 26 2024"."""
    return strftime_now("%b %d %Y")
