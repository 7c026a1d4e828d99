"""The fields that say what the answer must look like: grammar, json_schema, response_format."""

from typing import Any, Final

import attrs
import msgspec

from api.convert.nesting import check_nesting
from api.errors import bad_request
from api.fields import GenerationFields
from llamabox.settings import GenerationDefaults

_FORMAT: Final = "response_format"
_ANY_OBJECT: Final = {"type": "object"}


@attrs.frozen(kw_only=True)
class Constraint:
    """A grammar, a JSON schema, or neither; ``param`` is the field that asks for it.

    Raises ApiError 400 for a schema that is nested too deeply.
    """

    grammar: str | None = None
    schema: Any = None  # None: none
    strict: bool = True  # what cannot be enforced of the schema is an error
    param: str | None = None

    def __attrs_post_init__(self) -> None:
        check_nesting(self.schema, self.param)

    def __bool__(self) -> bool:
        return self.grammar is not None or self.schema is not None


def requested(fields: GenerationFields, response_format: dict[str, Any] | None) -> Constraint:
    """What the request asks for. Raises ApiError 400 for what is no schema, and for two at once."""
    wanted = formatted(response_format)
    given = fields.json_schema
    if fields.grammar and given is not None:
        raise bad_request("grammar and json_schema exclude each other", "json_schema")
    if wanted:
        for name, other in (("grammar", fields.grammar or None), ("json_schema", given)):
            if other is not None:
                raise bad_request(f"{_FORMAT} and {name} exclude each other", _FORMAT)
        return wanted
    if given is not None:
        return Constraint(schema=_schema(given, "json_schema"), param="json_schema")
    return Constraint(grammar=fields.grammar, param="grammar") if fields.grammar else Constraint()


def default_constraint(defaults: GenerationDefaults) -> Constraint:
    """The server's own, for requests that have none."""
    if defaults.grammar is not None:
        return Constraint(grammar=defaults.grammar)
    if defaults.json_schema is not None:
        return Constraint(schema=msgspec.json.decode(defaults.json_schema))
    return Constraint()


def formatted(response_format: dict[str, Any] | None) -> Constraint:
    """What OpenAI's response_format asks for. A schema is strict only if it says so. Raises ApiError 400."""
    if response_format is None:
        return Constraint()
    match response_format.get("type"):
        case "text":
            return Constraint()
        case "json_object":
            schema = response_format.get("schema")
            wanted = _ANY_OBJECT if schema is None else _schema(schema, "response_format.schema")
            return Constraint(schema=wanted, strict=False, param=_FORMAT)
        case "json_schema":
            return _named(response_format.get("json_schema"))
        case _:
            raise bad_request("response_format.type: expected text, json_object or json_schema", _FORMAT)


def _named(given: object) -> Constraint:
    where = "response_format.json_schema"
    if not isinstance(given, dict):
        raise bad_request(f"{where}: expected an object with a schema", where)
    if not isinstance(given.get("name", ""), str):
        raise bad_request(f"{where}.name: expected text", f"{where}.name")
    strict = given.get("strict")
    if not isinstance(strict, bool | None):
        raise bad_request(f"{where}.strict: expected true or false", f"{where}.strict")
    return Constraint(schema=_schema(given.get("schema"), f"{where}.schema"), strict=strict is True, param=_FORMAT)


def _schema(given: object, where: str) -> Any:
    if not isinstance(given, dict | bool):
        raise bad_request(f"{where}: expected a JSON schema", where)
    return given
