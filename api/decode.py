"""Request bodies to shapes, and every way in which that fails to a 400 that names the field."""

import re
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

import attrs
import msgspec
from quart.wrappers import Request

from api.convert.halves import find_half
from api.convert.whole import is_about_a_float, whole
from api.errors import ApiError, bad_request

# How msgspec ends its messages: "… - at `$.messages[0].role`".
_PATH: Final = re.compile(r" - at `(?:key in )?\$?\.?(?P<path>[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(?P<name>[^`]+)`")


async def read[T](request: Request, shape: type[T]) -> T:
    """The request's JSON body as ``shape``. Raises ApiError 400 (not JSON, a field missing, mistyped or out of range).

    The content type is not looked at: curl sends a form type by default.
    """
    return parse(await request.get_data(cache=False, as_text=False, parse_form_data=False), shape)


def parse[T](body: bytes, shape: type[T]) -> T:
    """``body`` as ``shape``. Raises ApiError 400."""
    try:
        return _decode(body, shape)
    except msgspec.ValidationError as error:
        raise field_error(shape, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if half := find_half(body):
            where, written = half
            reason = f"half of a surrogate pair ({written}) is no character"
            raise bad_request(f"{where}: {reason}" if where else reason, where or None) from None
        raise bad_request(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise bad_request("The body is nested too deeply") from None


def read_query[T](request: Request, shape: type[T]) -> T:
    """The request's query as ``shape``. Raises ApiError 400."""
    key: Any = shape
    try:
        result: T = msgspec.convert(request.args.to_dict(), key, strict=False)
    except msgspec.ValidationError as error:
        raise field_error(shape, error) from None
    return result


def _decode[T](body: bytes, shape: type[T]) -> T:
    key: Any = shape
    try:
        result: T = _decoder(key).decode(body)
    except msgspec.ValidationError as error:
        if not is_about_a_float(error):
            raise
        result = _decoder(key).decode(msgspec.json.encode(whole(msgspec.json.decode(body))))
    return result


@cache
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def field_error(shape: type, error: msgspec.ValidationError) -> ApiError:
    """The 400 that names the field, and what it accepts where that is a choice of words."""
    path, message = "", str(error)
    if found := _PATH.search(message):
        path, message = found["path"], message[: found.start()]
    if missing := _MISSING.search(message):
        path = f"{path}.{missing['name']}" if path else missing["name"]
    elif words := _words(shape, path):
        message = f"{message}, it must be one of {', '.join(words)}"
    return bad_request(f"{path}: {message}" if path else message, path or None)


def _words(shape: type, name: str) -> tuple[str, ...]:
    """The words that a field of ``shape`` is declared to accept; none for other fields."""
    field = attrs.fields_dict(shape).get(name) if attrs.has(shape) else None
    if field is None:
        return ()
    kinds = (field.type, *get_args(field.type))
    return tuple(word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))
