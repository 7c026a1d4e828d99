"""A request as multipart/form-data, described by what the same request is as JSON."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from api.images.fields import OPTIONS, STRUCTURED

type Json = dict[str, Any]

FORM: Final = "multipart/form-data"
_FILE: Final[Json] = {"type": "string", "format": "binary"}
_TEXT: Final[Json] = {"type": "string", "contentMediaType": "application/json"}


def form_schema(schema: Json, options: Json, files: Collection[str]) -> Json:
    """The schema of the form.

    ``files`` are sent as such, structured fields as JSON, and each of the stream's ``options`` may be a field too.
    """
    properties = {name: _as_part(name, field, files) for name, field in schema["properties"].items()}
    flat = {f"{OPTIONS}_{name}": field for name, field in options["properties"].items()}
    return {**schema, "title": f"{schema['title']} as a form", "properties": properties | flat}


def _as_part(name: str, field: Mapping[str, Any], files: Collection[str]) -> Json:
    described = {"description": field["description"]}
    if name in files:
        return _FILE | described
    return _TEXT | described if name in STRUCTURED else dict(field)
