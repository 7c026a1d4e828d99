"""Parts of a body that may hold any JSON: how deep they go."""

from typing import Any

from api.errors import bad_request
from llamabox.chat.budget import MAX_NESTED, is_deeper


def check_nesting(value: Any, where: str | None) -> None:
    """Raises ApiError 400 for the field ``where`` if its value is nested too deeply for a template or a grammar."""
    if is_deeper(value, MAX_NESTED):
        raise bad_request(f"{where or 'the schema'}: it is nested more than {MAX_NESTED} levels deep", where)
