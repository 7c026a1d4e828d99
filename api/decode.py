"""Request bodies to shapes, and every way in which that fails to a 400 that names the field."""

import re
from functools import cache
from typing import Any, Final

import msgspec
from quart.wrappers import Request

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
    key: Any = shape
    try:
        result: T = _decoder(key).decode(body)
    except msgspec.ValidationError as error:
        raise _field_error(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise bad_request("The body is nested too deeply") from None
    return result


@cache
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def _field_error(message: str) -> ApiError:
    path = ""
    if found := _PATH.search(message):
        path, message = found["path"], message[: found.start()]
    if missing := _MISSING.search(message):
        path = f"{path}.{missing['name']}" if path else missing["name"]
    return bad_request(f"{path}: {message}" if path else message, path or None)
