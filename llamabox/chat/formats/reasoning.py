"""Reasoning before an answer, which most formats put between marks."""

from llamabox.chat.formats.base import Marks, Reading, Writer
from llamabox.chat.formats.reader import Parsing, Reader


def begin_reasoning(source: Reader, marks: Marks, reading: Reading) -> Parsing[bool]:
    """Whether reasoning comes. Its start and the white space around it are read, also where the prompt wrote it."""
    yield from source.space()
    start = marks.start.strip()
    started = (yield from source.accept(start)) is not None
    if started or reading.reasoning_open:
        yield from source.space()
        return True
    if source.at_limit and source.cut_within(start):
        source.rest()
    return False


def read_reasoning(source: Reader, out: Writer, marks: Marks, *stops: str) -> Parsing[str | None]:
    """Read reasoning up to its end, which is read too, or to one of ``stops``, which is not read but returned."""
    end = marks.end.strip()
    found = yield from source.until(end, *stops, to=out.reasoning, trim=True, at_limit=bool(stops))
    if found == end:
        yield from source.take(len(end))
        return None
    return found
