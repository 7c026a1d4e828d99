"""A form (multipart/form-data) as its fields and files. What is cut off or malformed is refused, not left out."""

from typing import Final

import attrs
import trio
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from api.errors import bad_request
from api.http import ApiRequest

_PIECE: Final = 64 * 1024  # bytes that are looked through before others have a turn
_MOST_PARTS: Final = 1000
_CHARSETS: Final = frozenset({"ascii", "us-ascii", "utf-8", "iso-8859-1"})


@attrs.define
class Form:
    """Names with texts, and names with contents, in order."""

    fields: list[tuple[str, str]] = attrs.field(factory=list)
    files: list[tuple[str, bytes]] = attrs.field(factory=list)


async def read_form(request: ApiRequest) -> Form:
    """The request's form. Raises ApiError 400 where it is none."""
    body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary:
        raise bad_request("The form's content type names no boundary")
    try:
        reader = _Reader(MultipartDecoder(boundary.encode(), max_parts=_MOST_PARTS))
        for start in range(0, len(body), _PIECE):
            reader.feed(body[start : start + _PIECE])
            await trio.lowlevel.checkpoint()
        return reader.finish()
    except RequestEntityTooLarge:
        raise bad_request(f"A form has at most {_MOST_PARTS} parts") from None
    except ValueError as error:
        raise bad_request(f"The body is not a valid form: {error}") from None


@attrs.define
class _Reader:
    _decoder: MultipartDecoder
    _form: Form = attrs.field(factory=Form, init=False)
    _part: Field | File | None = attrs.field(default=None, init=False)
    _content: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> None:
        """Take in the next bytes. Raises ValueError."""
        self._decoder.receive_data(data)
        while not isinstance(event := self._decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, Field | File):
                self._part = event
            elif isinstance(event, Data):
                self._content += event.data
                if not event.more_data:
                    self._end_part()

    def finish(self) -> Form:
        """All that the form holds. Raises ValueError where its end is missing."""
        self._decoder.receive_data(None)
        try:
            self._decoder.next_event()
        except ValueError:
            raise ValueError("its end is missing") from None
        return self._form

    def _end_part(self) -> None:
        part, content = self._part, bytes(self._content)
        self._content.clear()
        if part is None or part.name is None:
            raise ValueError("a part has no name")
        if isinstance(part, File):
            self._form.files.append((part.name, content))
        else:
            self._form.fields.append((part.name, content.decode(_charset(part))))


def _charset(part: Field) -> str:
    named = parse_options_header(part.headers.get("content-type"))[1].get("charset", "").lower()
    return named if named in _CHARSETS else "utf-8"
