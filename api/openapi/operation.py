"""What the description says about one route beside its paths."""

import enum
from typing import Any, Final

import attrs

from api.openapi.replies.state import Error

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


class Tag(enum.Enum):
    """A group of routes."""

    STATE = "state"
    OPENAI = "OpenAI"
    ANTHROPIC = "Anthropic"
    NATIVE = "native"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Query:
    """A query parameter with its schema."""

    name: str
    text: str
    schema: dict[str, Any]
    required: bool = False


def _shapes(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


@attrs.frozen
class Operation:
    """A route. ``request``, ``reply``, ``event`` and ``error`` are classes that JSON Schema can be made of.

    Several of them are alternatives. ``event`` is what the events of a streamed reply carry, ``media`` the type of a
    reply that is not JSON. ``files``: the request may be a form too, with these of its fields as files. ``paced``: the
    rate headers apply. ``open``: needs no key. ``optional_body``: may come without one.
    """

    summary: str
    tag: Tag
    request: tuple[Any, ...] = attrs.field(converter=_shapes, default=())
    reply: tuple[Any, ...] = attrs.field(converter=_shapes, default=())
    event: tuple[Any, ...] = attrs.field(converter=_shapes, default=())
    error: tuple[Any, ...] = attrs.field(converter=_shapes, default=Error)
    media: str = JSON
    query: tuple[Query, ...] = ()
    files: tuple[str, ...] = ()
    paced: bool = False
    open: bool = False
    optional_body: bool = False
