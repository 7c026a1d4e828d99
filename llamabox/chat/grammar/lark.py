"""Builds one grammar: rules get names, texts are escaped, control tokens are referred to by their ids."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

# JSON as models were trained to write it, with nothing left to choose: what is forced needs no sampling.
_JSON_OPTIONS: Final = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}

# Beyond it JSON numbers are not exact, and llguidance has no expression for most bounds, such as those of int64.
_FAR: Final = 2**53
_BOUNDS: Final = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_DATA: Final = {"const", "enum", "default", "examples"}
_NAMES: Final = {"properties", "patternProperties", "$defs", "definitions"}  # schemas by names, which may be any

FREE_TEXT: Final = "/(?s:.*)/"  # any text: an expression


class Lark:
    """A grammar in the making. ``special``: spellings of control tokens with their ids, which stand for the text.

    ``lenient``: what llguidance does not know in JSON schemas is ignored, else it is an error when it compiles them.
    """

    def __init__(self, special: Mapping[str, int] | None = None, *, lenient: bool = False) -> None:
        self._lenient = lenient
        self._special = dict(special or {})
        self._rules: list[str] = []
        self._names: dict[str, str] = {}  # body → name: equal rules are one
        self._recursive = 0
        spellings = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, spellings)) + ")") if spellings else None

    def text(self, text: str) -> str:
        """An expression for a fixed text."""
        parts = self._split.split(text) if self._split else [text]
        symbols = [f"<[{self._special[p]}]>" if p in self._special else quoted(p) for p in parts if p]
        return " ".join(symbols) or '""'

    def json(self, schema: Any, *, lenient: bool | None = None) -> str:
        """A rule for JSON text that ``schema`` (a JSON schema as Python data) allows. ``lenient``: None as the rest."""
        ignoring = self._lenient if lenient is None else lenient
        options = {"x-guidance": {**_JSON_OPTIONS, "lenient": True} if ignoring else _JSON_OPTIONS}
        near = _without_far_bounds(schema)
        full = {**near, **options} if isinstance(near, Mapping) else {"allOf": [near], **options}
        return self.rule("%json " + json.dumps(full, ensure_ascii=False))

    def until(self, end: str) -> str:
        """A rule for any text up to and with ``end``, which does not come before."""
        first = self._split.search(end) if self._split else None
        if first is None:
            return self.rule(FREE_TEXT, options=f"[suffix={quoted(end)}]")
        # Text has no control tokens in it: up to the first one of the end it may be as long as it likes.
        text = self.rule(f"/(?s:.*){_literal(end[: first.start()])}/")
        return self.rule(f"{text} {self.text(end[first.start() :])}")

    def is_free(self, expression: str) -> bool:
        """Whether this is the expression, or the rule, of any text."""
        return expression in (FREE_TEXT, self._names.get(FREE_TEXT))

    def choice(self, *expressions: str) -> str:
        """A rule for any one of the expressions."""
        return expressions[0] if len(expressions) == 1 else self.rule(" | ".join(expressions))

    def rule(self, body: str, options: str = "") -> str:
        """The name of a rule with this body."""
        name = self._names.get(options + body)
        if name is None:
            name = self._names[options + body] = f"r{len(self._names)}"
            self._rules.append(f"{name}{options}: {body}")
        return name

    def recursive(self, write: Callable[[str], str]) -> str:
        """The name of a rule that may contain itself: ``write`` gets the name and returns the body."""
        self._recursive += 1
        name = f"s{self._recursive}"
        self._rules.append(f"{name}: {write(name)}")
        return name

    def source(self, start: str) -> str:
        """The whole grammar, whose start is the expression ``start``."""
        return "\n".join([f"start: {start}", *self._rules, ""])


def _without_far_bounds(schema: Any, *, by_name: bool = False) -> Any:
    """The schema, or what is a schema ``by_name``, without bounds that no number reaches in earnest."""
    if isinstance(schema, list):
        return [_without_far_bounds(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    if by_name:
        return {name: _without_far_bounds(part) for name, part in schema.items()}
    return {
        key: value if key in _DATA else _without_far_bounds(value, by_name=key in _NAMES)
        for key, value in schema.items()
        if not (key in _BOUNDS and isinstance(value, int | float) and abs(value) > _FAR)
    }


def quoted(text: str) -> str:
    """A string literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)


def _literal(text: str) -> str:
    """A regular expression that matches the text."""
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)
