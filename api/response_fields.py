"""response_fields: only the asked-for parts of a reply."""

from collections.abc import Sequence
from typing import Any

from api.errors import bad_request


def select(body: dict[str, Any], wanted: Sequence[str] | None) -> dict[str, Any]:
    """The wanted fields; "a/b" lifts b out of a. What is not there is left out. None or []: all."""
    if not wanted:
        return body
    result: dict[str, Any] = {}
    for path in wanted:
        value: Any = body
        for name in path.split("/"):
            if not isinstance(value, dict) or name not in value:
                break
            value = value[name]
        else:
            result[name] = value
    return result


def refuse_selection(wanted: Sequence[str] | None) -> None:
    """Raises ApiError 400 on the routes whose replies have a fixed shape."""
    if wanted:
        raise bad_request("response_fields is a field of /completion", "response_fields")
