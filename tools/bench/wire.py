"""HTTP/1.1 responses and server-sent events as incremental parsers: no sockets, no clock."""

import enum

import attrs


class ProtocolError(Exception):
    """The peer sent something that is not the expected HTTP/1.1 or event stream."""


class Part(enum.Enum):
    """What of a response comes next."""

    HEAD = "head"
    SIZED = "sized body"
    CHUNK_SIZE = "chunk size"
    CHUNK = "chunk"
    CHUNK_END = "end of chunk"
    TRAILER = "trailer"
    UNTIL_CLOSE = "body until close"
    DONE = "done"


@attrs.define
class ResponseParser:
    """One response. ``status`` and ``headers`` (lower-case names) are valid once the head has been fed."""

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    _part: Part = Part.HEAD
    _buffer: bytearray = attrs.field(factory=bytearray)
    _left: int = 0  # bytes to come of the sized body or the chunk

    @property
    def done(self) -> bool:
        """Whether the response is complete."""
        return self._part is Part.DONE

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived; returns the pieces of body in it. Raises ProtocolError."""
        self._buffer += data
        pieces: list[bytes] = []
        while self._advance(pieces):
            pass
        return pieces

    def finish(self) -> None:
        """The connection was closed. Raises ProtocolError when the response is not complete."""
        if self._part is Part.UNTIL_CLOSE:
            self._part = Part.DONE
        if not self.done:
            msg = f"connection closed in the middle of a response ({self._part.value})"
            raise ProtocolError(msg)

    def _advance(self, pieces: list[bytes]) -> bool:
        """One step; False when more input is needed."""
        match self._part:
            case Part.HEAD:
                return self._head()
            case Part.SIZED | Part.CHUNK:
                return self._counted(pieces)
            case Part.UNTIL_CLOSE:
                if self._buffer:
                    pieces.append(self._take(len(self._buffer)))
                return False
            case Part.DONE:
                return False
            case _:
                return self._line()

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = self._take(end + 4)[:-4].decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            msg = f"not an HTTP/1.1 response: {first[:80]!r}"
            raise ProtocolError(msg)
        self.status = int(rest[:3])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        if "chunked" in self.headers.get("transfer-encoding", ""):
            self._part = Part.CHUNK_SIZE
        elif "content-length" in self.headers:
            self._left = int(self.headers["content-length"])
            self._part = Part.SIZED if self._left else Part.DONE
        else:
            self._part = Part.UNTIL_CLOSE
        return True

    def _counted(self, pieces: list[bytes]) -> bool:
        if not self._buffer:
            return False
        piece = self._take(min(self._left, len(self._buffer)))
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._part = Part.CHUNK_END if self._part is Part.CHUNK else Part.DONE
        return True

    def _line(self) -> bool:
        """A chunk's size, the empty line after it, or a trailer."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = self._take(end + 2)[:-2]
        match self._part:
            case Part.CHUNK_SIZE:
                try:
                    self._left = int(line.partition(b";")[0], 16)
                except ValueError:
                    msg = f"not a chunk size: {line[:80]!r}"
                    raise ProtocolError(msg) from None
                self._part = Part.CHUNK if self._left else Part.TRAILER
            case Part.CHUNK_END:
                self._part = Part.CHUNK_SIZE
            case _:
                if not line:
                    self._part = Part.DONE
        return True


@attrs.define
class EventParser:
    """The data of server-sent events; comments and other fields are skipped.

    An event with an ``error:`` line and no data counts as data: older llama-servers end a failed stream that way.
    """

    _buffer: bytearray = attrs.field(factory=bytearray)
    _data: list[bytes] = attrs.field(factory=list)
    _error: bytes | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece of body; returns the data of each event that it completes."""
        self._buffer += data
        events: list[bytes] = []
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            if line:
                self._field(line)
            elif (event := self._event()) is not None:
                events.append(event)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"error":
            self._error = value.strip()

    def _event(self) -> bytes | None:
        event = b"\n".join(self._data) if self._data else self._error
        self._data, self._error = [], None
        return event
