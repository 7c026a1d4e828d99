"""Parts of a body whose shape depends on what stands in them, read one by one."""

from typing import Any

import msgspec

from api.errors import bad_request


def typed[T](value: object, shape: type[T], where: str) -> T:
    """``value``, the field ``where`` of a body, as ``shape``. Raises ApiError 400 naming the field inside it."""
    kind: Any = shape
    try:
        result: T = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        field = where + path.removesuffix("`")
        raise bad_request(f"{field}: {message}", field) from None
    return result
