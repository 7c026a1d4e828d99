"""Builds one grammar: rules get names, texts are escaped, control tokens are referred to by their ids."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

# JSON as models were trained to write it, with nothing left to choose: what is forced needs no sampling.
_JSON_OPTIONS: Final = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


class Lark:
    """A grammar in the making. ``special``: spellings of control tokens with their ids, which stand for the text."""

    def __init__(self, special: Mapping[str, int] | None = None) -> None:
        self._special = dict(special or {})
        self._rules: list[str] = []
        self._names: dict[str, str] = {}  # body → name: equal rules are one
        spellings = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, spellings)) + ")") if spellings else None

    def text(self, text: str) -> str:
        """An expression for a fixed text."""
        parts = self._split.split(text) if self._split else [text]
        symbols = [f"<[{self._special[p]}]>" if p in self._special else quoted(p) for p in parts if p]
        return " ".join(symbols) or '""'

    def json(self, schema: Any) -> str:
        """A rule for JSON text that ``schema`` (a JSON schema as Python data) allows."""
        options = {"x-guidance": _JSON_OPTIONS}
        full = {**schema, **options} if isinstance(schema, Mapping) else {"allOf": [schema], **options}
        return self.rule("%json " + json.dumps(full, ensure_ascii=False))

    def until(self, end: str) -> str:
        """A rule for any text up to and with ``end``, which does not come before."""
        first = self._split.search(end) if self._split else None
        if first is not None and first.start() == 0:
            return self.rule(f"{self.rule('/(?s:.*)/')} {self.text(end)}")
        return self.rule("/(?s:.*)/", options=f"[suffix={quoted(end)}]")

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

    def source(self, start: str) -> str:
        """The whole grammar, whose start is the expression ``start``."""
        return "\n".join([f"start: {start}", *self._rules, ""])


def quoted(text: str) -> str:
    """A string literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)
