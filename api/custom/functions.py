"""Custom tools and their calls, as the model sees them."""

import json
from typing import Any, Final, Literal

import attrs

from api.convert.typed import typed
from api.errors import bad_request

PARAMETER: Final = "input"

_FREE: Final = f"The argument `{PARAMETER}` is free text."
_MATCHING: Final = {
    "lark": "It must match this Lark grammar:",
    "regex": "All of it must match this regular expression:",
}


@attrs.frozen(kw_only=True)
class _Grammar:
    syntax: Literal["lark", "regex"]
    definition: str


def as_function(given: object, where: str, *, nested: bool = False) -> object:
    """The function that stands for a custom tool, as ``api.tools.function_tool`` takes it, which checks the rest.

    ``nested``: a grammar has an object of its own in the format. A regular expression is demanded as far as schemas
    are, Lark is only told: no grammar of the engine reaches into a string of JSON. Raises ApiError 400 for the format.
    """
    if not isinstance(given, dict):
        return given
    told, text = _FREE, {"type": "string"}
    grammar = _grammar(given.get("format"), f"{where}.format", nested)
    if grammar is not None:
        told = f"{_FREE} {_MATCHING[grammar.syntax]}\n{grammar.definition}"
        if grammar.syntax == "regex":
            text["pattern"] = f"^(?:{grammar.definition})$"
    parameters = {
        "type": "object",
        "properties": {PARAMETER: text},
        "required": [PARAMETER],
        "additionalProperties": False,
    }
    description = given.get("description")
    if isinstance(description, str | None):
        description = f"{description}\n\n{told}" if description else told
    return {"name": given.get("name"), "description": description, "parameters": parameters}


def arguments_of(text: str) -> str:
    """The arguments of the function for a call with this text."""
    return json.dumps({PARAMETER: text}, ensure_ascii=False)


def _grammar(given: object, where: str, nested: bool) -> _Grammar | None:
    if given is None:
        return None
    shown: dict[str, Any] = given if isinstance(given, dict) else {}
    match shown.get("type"):
        case "text":
            return None
        case "grammar" if nested:
            return typed(shown.get("grammar"), _Grammar, f"{where}.grammar")
        case "grammar":
            return typed(shown, _Grammar, where)
        case _:
            raise bad_request(f"{where}.type: expected text or grammar", f"{where}.type")
