"""What the hand-written formats have in common: a call begins where its tool is known and its arguments follow."""

from collections.abc import Callable, Mapping

from llamabox.chat.formats.base import Tool, Writer
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable


def begin(source: Reader, out: Writer, tools: Mapping[str, Tool], name: str, call_id: str | None = None) -> None:
    """Begin a call; its text is not given back any more. Raises Unparsable for a tool that nobody offers."""
    if name not in tools:
        raise Unparsable(f"there is no tool {name!r}")
    source.recorded()
    out.call(name, call_id)


def json_call(
    source: Reader, out: Writer, tools: Mapping[str, Tool], name: str, call_id: str | None = None
) -> Parsing[None]:
    """A call whose arguments follow as a JSON object.

    Raises Unparsable before the call begins if the tool is unknown or something else follows, and later where the text
    ends inside the arguments.
    """
    yield from source.space()
    if (yield from source.peek(1)) != "{":
        raise Unparsable("expected an object of arguments")
    begin(source, out, tools, name, call_id)
    yield from source.json(out.arguments)


def calls_in_a_row(source: Reader, out: Writer, call: Callable[[], Parsing[bool]]) -> Parsing[None]:
    """Read calls, ``call`` one at a time, until it says that no other follows.

    What only looks like another one is content. Raises Unparsable in the first call, or inside one that has begun.
    """
    whole: int | None = None
    try:
        while (yield from call()):
            whole = out.calls
            source.record()
    except Unparsable:
        if whole is None or out.calls > whole:
            raise
        out.content(source.given_back())


def known_name(source: Reader, tools: Mapping[str, Tool]) -> Parsing[str]:
    """Read the name of a tool, the longest that fits. Raises Unparsable if none does."""
    yield from source.space()
    return (yield from source.expect(*tools))


def paragraph(to: Callable[[str], None], *, more: bool) -> Callable[[str], None]:
    """Hands text on to ``to``; with ``more`` an empty line comes before it, unless it is empty."""
    gap = "\n\n" if more else ""

    def hand(text: str) -> None:
        nonlocal gap
        if text:
            to(gap + text)
            gap = ""

    return hand


def ignore(_text: str) -> None:
    """Takes text that means nothing."""
