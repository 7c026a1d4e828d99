"""From the texts around two calls to the marks of a section and of each call in it."""

import attrs

from llamabox.chat.analysis.diff import common_prefix, common_suffix
from llamabox.chat.formats.base import Marks


@attrs.frozen(kw_only=True)
class Division:
    """Marks around all calls, around each call, and what separates them."""

    section: Marks
    call: Marks
    separator: str


def divide(start: str, between: str | None, end: str) -> Division:
    """Divide the texts before the first call, between the calls, and behind the last one.

    What comes again before the second call belongs to each call, what does not to the section. ``between`` is None
    where only one call is possible: all belongs to the call.
    """
    if between is None:
        return Division(section=Marks("", ""), call=Marks(start, end), separator="")
    call_start = _mark(common_suffix(start, between))
    rest = between[: len(between) - len(call_start)]
    call_end = _mark(common_prefix(end, rest))
    section = Marks(start[: len(start) - len(call_start)], end[len(call_end) :])
    return Division(section=_visible(section), call=Marks(call_start, call_end), separator=rest[len(call_end) :])


def _mark(text: str) -> str:
    """White space alone is no mark."""
    return text if text.strip() else ""


def _visible(marks: Marks) -> Marks:
    return Marks(_mark(marks.start), _mark(marks.end))
