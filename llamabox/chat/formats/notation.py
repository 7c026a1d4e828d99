"""The grammar of values that are no JSON, from their JSON schema."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from llamabox.chat.formats.members import members, resolve, standalone, variants
from llamabox.chat.grammar.lark import Lark

_ANY_DEPTH: Final = 4  # how deep values nest where no schema says anything
_NUMERIC: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


@attrs.frozen(kw_only=True)
class Notation:
    """How a family writes values. Numbers are written as in JSON."""

    quote: Callable[[str], str]  # a string
    text: Callable[[Lark], str]  # an expression for any string
    any_key: str  # an expression for any key
    key: Callable[[str], str]
    colon: str
    comma: str
    true: str
    false: str
    null: str
    sorted_keys: bool = False
    json_objects: bool = False  # objects may come as JSON as well, all that is in them included

    def write(self, value: Any) -> str:
        """The text of a value."""
        match value:
            case bool():
                return self.true if value else self.false
            case None:
                return self.null
            case str():
                return self.quote(value)
            case Mapping():
                return "{" + self.comma.join(self.key(k) + self.colon + self.write(v) for k, v in value.items()) + "}"
            case list() | tuple():
                return "[" + self.comma.join(map(self.write, value)) + "]"
            case _:
                return str(value)


@attrs.frozen(kw_only=True)
class ValueGrammar:
    """Writes the grammar of the values of one tool."""

    lark: Lark
    notation: Notation
    root: Mapping[str, Any]  # the schema that references start from
    _references: dict[str, str] = attrs.field(factory=dict, init=False)  # schemas with their rules
    _values: dict[int, tuple[Any, str]] = attrs.field(factory=dict, init=False)  # by identity: schemas, expressions

    def members(self, schema: Mapping[str, Any], key: Callable[[str], str], colon: str, any_key: str) -> str:
        """An expression for the members of an object, in the order of the schema, without what is around them."""
        lark, comma = self.lark, self.lark.text(self.notation.comma)
        named = members(schema)
        if named is None:
            return self._any_members(any_key, colon, self.value(schema.get("additionalProperties", True)))
        if self.notation.sorted_keys:
            named.sort(key=lambda member: member.name.lower())
        first = rest = '""'
        for member in reversed(named):
            pair = lark.rule(f"{lark.text(key(member.name) + colon)} {self.value(member.schema)}")
            if member.required:
                first, rest = lark.rule(f"{pair} {rest}"), lark.rule(f"{comma} {pair} {rest}")
            else:
                first, rest = lark.rule(f"{pair} {rest} | {first}"), lark.rule(f"({comma} {pair})? {rest}")
        return first

    def value(self, schema: Any) -> str:
        """An expression for a value that the schema allows. Once for each: it may be a part of many variants."""
        known = self._values.get(id(schema))
        if known is None:
            found = [self._one(variant) for variant in variants(schema, self.root, follow=False)]
            known = self._values[id(schema)] = schema, self.lark.choice(*found)
        return known[1]

    def anything(self, depth: int = _ANY_DEPTH) -> str:
        """An expression for any value."""
        lark, notation = self.lark, self.notation
        words = [lark.text(text) for text in (notation.true, notation.false, notation.null)]
        scalars = [notation.text(lark), lark.json({"type": "number"}), *words]
        if not depth:
            return lark.choice(*scalars)
        inner = self.anything(depth - 1)
        items = f'"[" ({inner} ({lark.text(notation.comma)} {inner})*)? "]"'
        pairs = f'"{{" {self._any_members(notation.any_key, notation.colon, inner)} "}}"'
        objects = [lark.json({"type": "object"})] if notation.json_objects else []
        return lark.choice(*scalars, lark.rule(items), lark.rule(pairs), *objects)

    def _any_members(self, any_key: str, colon: str, value: str) -> str:
        pair = self.lark.rule(f"{any_key} {self.lark.text(colon)} {value}")
        return self.lark.rule(f"({pair} ({self.lark.text(self.notation.comma)} {pair})*)?")

    def _reference(self, schema: Mapping[str, Any]) -> str:
        """A rule of its own for what a reference means: it may contain itself."""
        known = json.dumps(schema, sort_keys=True)
        target = resolve(schema, self.root)
        if "$ref" in target:
            return self.anything()

        def write(name: str) -> str:
            self._references[known] = name
            return self.value(target)

        return self._references[known] if known in self._references else self.lark.recursive(write)

    def _one(self, schema: Any) -> str:
        """An expression for a value of a schema of one type."""
        lark, notation = self.lark, self.notation
        if not isinstance(schema, Mapping):
            return self.anything()
        if "$ref" in schema:
            return self._reference(schema)
        if "const" in schema:
            return lark.text(notation.write(schema["const"]))
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return lark.choice(*[lark.text(notation.write(value)) for value in schema["enum"]])
        return self._typed(schema)

    def _typed(self, schema: Mapping[str, Any]) -> str:
        lark, notation = self.lark, self.notation
        match schema.get("type"):
            case "string":
                return notation.text(lark)
            case "integer" | "number":
                return lark.json({key: schema[key] for key in ("type", *_NUMERIC) if key in schema})
            case "boolean":
                return lark.choice(lark.text(notation.true), lark.text(notation.false))
            case "null":
                return lark.text(notation.null)
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
        if "properties" in schema:
            return self._object(schema)
        return self._array(schema) if "items" in schema else self.anything()

    def _object(self, schema: Mapping[str, Any]) -> str:
        given = self.members(schema, self.notation.key, self.notation.colon, self.notation.any_key)
        written = self.lark.rule(f'"{{" {given} "}}"')
        if not self.notation.json_objects:
            return written
        return self.lark.choice(written, self.lark.json({"type": "object", **standalone(schema, self.root)}))

    def _array(self, schema: Mapping[str, Any]) -> str:
        item = self.value(schema.get("items", True))
        least, most = schema.get("minItems"), schema.get("maxItems")
        least = least if isinstance(least, int) else 0
        if most == 0:
            return '"[]"'
        more = f"({self.lark.text(self.notation.comma)} {item})"
        items = f"{item} {more}{{{max(least, 1) - 1},{most - 1 if isinstance(most, int) else ''}}}"
        return self.lark.rule(f'"[" {items} "]"' if least else f'"[" ({items})? "]"')
