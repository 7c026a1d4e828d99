"""Token bytes to text that may be sent: whole characters only, and nothing that may become a stop string."""

import codecs
from collections.abc import Sequence

import attrs


@attrs.define  # and not frozen: one is made for each token, in half of the time
class Piece:
    """Text that may be sent now; ``stop`` is the stop string that ended the text, if one did."""

    text: str
    stop: str | None = None


class Detokenizer:
    """Feed bytes, get text. Invalid UTF-8 becomes U+FFFD; a character split over tokens waits for its rest."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stops = tuple(s for s in stop if s)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._longest = max(map(len, self._stops), default=0)
        self.n_in = 0  # characters decoded so far
        self.n_out = 0  # characters given out so far

    def feed(self, data: bytes) -> Piece:
        """Add the bytes of one token. After a stop string was found nothing more may be fed."""
        return self._advance(self._decoder.decode(data))

    def finish(self) -> str:
        """What was still held back, an incomplete character as U+FFFD."""
        tail = self._decoder.decode(b"", final=True)
        self.n_in += len(tail)
        text, self._held = self._held + tail, ""
        self.n_out += len(text)
        return text

    def _advance(self, text: str) -> Piece:
        self.n_in += len(text)
        if not self._stops:
            self.n_out += len(text)
            return Piece(text)
        self._held += text
        # The stop string that is complete first wins, so that it makes no difference where tokens end.
        found = [(i + len(s), i, s) for s in self._stops if (i := self._held.find(s)) >= 0]
        if found:
            _, at, stop = min(found)
            piece, self._held = Piece(self._held[:at], stop), ""
        else:
            keep = self._partial()
            cut = len(self._held) - keep
            piece, self._held = Piece(self._held[:cut]), self._held[cut:]
        self.n_out += len(piece.text)
        return piece

    def _partial(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(s.startswith(end) for s in self._stops):
                return length
        return 0
