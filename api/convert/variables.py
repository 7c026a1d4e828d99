"""Variables for the template, one of which the chat layer itself must know."""

from collections.abc import Mapping
from typing import Any

from api.convert.nesting import check_nesting
from api.errors import bad_request


def without_thinking(
    given: Mapping[str, Any] | None, enable_thinking: bool | None
) -> tuple[dict[str, Any], bool | None]:
    """chat_template_kwargs without ``enable_thinking``, and its value where the API's own field says nothing.

    Raises ApiError 400 where that is no boolean, and for variables that are nested too deeply.
    """
    variables = dict(given or {})
    check_nesting(variables, "chat_template_kwargs")
    asked = variables.pop("enable_thinking", None)
    if not isinstance(asked, bool | None):
        where = "chat_template_kwargs.enable_thinking"
        raise bad_request(f"{where}: expected true or false", where)
    return variables, asked if enable_thinking is None else enable_thinking
