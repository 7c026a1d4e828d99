"""Descriptions as JSON-like data, to cross from one interpreter to another."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from llamabox.chat.analysis.description import CallSyntax, Description
from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.formats.tagged_json import TaggedJson

_SYNTAXES: Final[Mapping[str, type[CallSyntax]]] = {
    "json_calls": JsonCalls,
    "tagged_json": TaggedJson,
    "tagged_arguments": TaggedArguments,
}
_MARKS: Final = ("reasoning", "wrapping")


def to_plain(description: Description) -> dict[str, Any]:
    """Dicts, lists, strings, numbers, booleans and None."""
    plain = attrs.asdict(description)
    plain["tools"] = _plain_syntax(description.tools)
    return plain


def from_plain(plain: Mapping[str, Any]) -> Description:
    """What ``to_plain`` was given."""
    fields = dict(plain)
    for name in _MARKS:
        fields[name] = _marks(fields[name])
    fields["tools"] = _syntax(fields["tools"])
    return Description(**fields)


def _plain_syntax(syntax: CallSyntax | None) -> dict[str, Any] | None:
    if syntax is None:
        return None
    name = next(name for name, kind in _SYNTAXES.items() if kind is type(syntax))
    fields = {key: list(value) if isinstance(value, tuple) else value for key, value in attrs.asdict(syntax).items()}
    return {"class": name, **fields}


def _syntax(plain: Mapping[str, Any] | None) -> CallSyntax | None:
    if plain is None:
        return None
    fields = {key: value for key, value in plain.items() if key != "class"}
    for name in ("section", "call"):
        if name in fields:
            fields[name] = _marks(fields[name])
    if "keys" in fields:
        fields["keys"] = tuple(fields["keys"])
    return _SYNTAXES[plain["class"]](**fields)


def _marks(plain: Mapping[str, str] | None) -> Marks | None:
    return None if plain is None else Marks(**plain)
