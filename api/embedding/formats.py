"""What a request says about the form of its vectors, by the names of OpenAI and of Jina."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from api.embedding.encode import base64_text, bits, numbers, signed_bits
from api.embedding.shapes import EmbeddingFields, Type
from api.errors import bad_request
from engine.embedding.requests import Vector

RENDERERS: Final[Mapping[Type, Callable[[Vector], Any]]] = {
    "float": numbers,
    "base64": base64_text,
    "binary": signed_bits,
    "ubinary": bits,
}
_WHY: Final = {
    "late_chunking": "each text is embedded by itself, not as a part of all of them",
    "task": "no words are added for a task, and no adapter is chosen by it: texts go to the model as they are",
}


def wanted_type(fields: EmbeddingFields) -> Type:
    """How numbers are to be written. Raises ApiError 400 naming the field."""
    found: tuple[str, Type] | None = None
    for name in ("encoding_format", "embedding_type", "encoding_type"):
        given: Type | list[Type] | None = getattr(fields, name)
        if given is None:
            continue
        kinds = {given} if isinstance(given, str) else set(given)
        if len(kinds) != 1:
            raise bad_request(f"{name}: vectors are written in one type, {len(kinds)} are given", name)
        (kind,) = kinds
        if found is not None and found[1] != kind:
            raise bad_request(f"{name}: it says {kind}, {found[0]} says {found[1]}", name)
        found = name, kind
    return "float" if found is None else found[1]


def refuse_unoffered(fields: EmbeddingFields) -> None:
    """Raises ApiError 400 for what Jina's models do and this server does not."""
    for name, reason in _WHY.items():
        if getattr(fields, name):
            raise bad_request(f"{name}: {reason}", name)
