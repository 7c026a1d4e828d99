"""What the model gives to a custom tool, from the arguments of the function that stands for it."""

from collections.abc import Collection, Sequence
from typing import Final

from api.custom.functions import PARAMETER
from llamabox.chat.deltas import CallArguments, CallStarted, Delta
from llamabox.chat.formats.json_strings import read_string
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable

_BEFORE: Final = ("{", f'"{PARAMETER}"', ":")


class TextReader:
    """One call: JSON text of its arguments in, as it arrives, the tool's text out.

    Arguments that do not begin with the parameter's text, as a model may write them that nothing constrains, are
    given as they are. Of a text that is cut off, what it needed to go on is missing, like half of an escape.
    """

    def __init__(self) -> None:
        self._source = Reader()
        self._pieces: list[str] = []
        self._parsing = self._read()

    def feed(self, arguments: str) -> str:
        """The text that is sure by now and was not given yet."""
        self._source.push(arguments)
        next(self._parsing)
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

    def _read(self) -> Parsing[None]:
        """Never ends: there may always be more."""
        source = self._source
        source.record()
        try:
            for mark in _BEFORE:
                yield from source.space()
                yield from source.expect(mark)
            yield from source.space()
            is_text = (yield from source.at('"')) is not None
        except Unparsable:
            is_text = False
        if is_text:
            source.recorded()
            yield from read_string(source, self._pieces.append)
            yield from source.until(to=lambda _: None)
        else:
            self._pieces.append(source.recorded())
            yield from source.until(to=self._pieces.append)


class CustomTexts:
    """Turns the arguments of calls into text, for the tools of these names."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._open: TextReader | None = None

    def turned(self, deltas: Sequence[Delta]) -> list[Delta]:
        """The deltas, text in the place of arguments; less where what the arguments mean is not sure yet."""
        result: list[Delta] = []
        for delta in deltas:
            match delta:
                case CallStarted(_, _, name):
                    self._open = TextReader() if name in self._names else None
                    result.append(delta)
                case CallArguments(index, arguments) if self._open is not None:
                    if text := self._open.feed(arguments):
                        result.append(CallArguments(index, text))
                case _:
                    result.append(delta)
        return result
