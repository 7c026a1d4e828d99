"""The parts of a message that are media, in the form of OpenAI's chat API."""

from collections.abc import Mapping
from typing import Any, Final

from engine.errors import InvalidRequest

MEDIA_PARTS: Final = frozenset({"image_url", "input_audio"})
WHERE: Final = "_where"  # where the part stood in a request of another API
_KEYS: Final = {"image_url": ("image_url", ("url",)), "input_audio": ("input_audio", ("data", "url"))}


def media_part(kind: str, source: str, where: str) -> dict[str, Any]:
    """A part made of another API's."""
    key, (name, *_) = _KEYS[kind]
    return {"type": kind, key: {name: source}, WHERE: where}


def source_of(part: Mapping[str, Any], where: str) -> str:
    """The URL or the base64 text of a part. Raises InvalidRequest naming the field."""
    key, names = _KEYS[part["type"]]
    given = part.get(key)
    if isinstance(given, Mapping):
        given = next((given[name] for name in names if given.get(name) is not None), None)
    if not isinstance(given, str) or not given:
        field = f"{where}.{key}"
        raise InvalidRequest(f"{field}: expected an object with {' or '.join(names)}, a text", field)
    return given
