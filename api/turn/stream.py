"""A chat generation as the events of whichever API the client speaks."""

from collections.abc import Callable, Sequence

from api.errors import ApiError
from api.sse import RenderedPart
from api.turn.model import TurnEnd, TurnRenderer
from api.turn.reading import TurnReader, stopped
from engine.text.events import Finished, PrefillProgress, Timings, Tokens


class TurnStream:
    """Satisfies ``api.sse.StreamRenderer``: reads the choices, one reader each, and hands them to ``renderer``."""

    def __init__(self, readers: Sequence[TurnReader], renderer: TurnRenderer, leave: Callable[[int], None]) -> None:
        """``leave`` is told of a choice whose turn is over though the model goes on."""
        self._readers = readers
        self._renderer = renderer
        self._leave = leave
        self._ends: dict[int, TurnEnd] = {}

    def feed(self, choice: int, part: RenderedPart) -> bytes:
        """The events of ``part``; b"" where all of its text is held back."""
        if choice in self._ends:
            return b""
        match part:
            case Tokens():
                reader = self._readers[choice]
                read = reader.feed(part)
                events = b"" if read is None else self._renderer.part(choice, read)
                if not reader.over:
                    return events
                self._leave(choice)
                return events + self._finish(choice, stopped(part))
            case PrefillProgress():
                return self._renderer.progress(choice, part)
            case Finished():
                return self._finish(choice, part)

    def end(self, timings: Sequence[Timings]) -> bytes:
        """What follows when all choices have finished."""
        return self._renderer.end([self._ends[choice] for choice in range(len(self._readers))])

    def failed(self, error: ApiError) -> bytes:
        """See ``StreamRenderer.failed``."""
        return self._renderer.failed(error)

    @property
    def ping(self) -> bytes:
        """See ``StreamRenderer.ping``."""
        return self._renderer.ping

    def _finish(self, choice: int, part: Finished) -> bytes:
        last, end = self._readers[choice].finish(part)
        self._ends[choice] = end
        rest = b"" if last is None else self._renderer.part(choice, last)
        return rest + self._renderer.finish(choice, end)
