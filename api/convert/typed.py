"""Parts of a body whose shape depends on what stands in them, read one by one."""

from typing import Any

import msgspec

from api.convert.whole import is_about_a_float, whole
from api.errors import bad_request


def typed[T](value: object, shape: type[T], where: str) -> T:
    """``value``, the field ``where`` of a body, as ``shape``. Raises ApiError 400 naming the field inside it."""
    kind: Any = shape
    try:
        result: T = _converted(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        field = where + path.removesuffix("`")
        raise bad_request(f"{field}: {message}", field) from None
    except RecursionError:
        raise bad_request(f"{where} is nested too deeply", where) from None
    return result


def _converted(value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if not is_about_a_float(error):
            raise
        return msgspec.convert(whole(value), kind)
