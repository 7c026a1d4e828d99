"""The fields by which several APIs say what becomes of a text that is too long: it is refused, or cut at its end."""

from typing import Annotated, Literal

import attrs
from msgspec import Meta

from api.errors import bad_request
from engine.embedding.requests import EmbeddingInfo


@attrs.frozen(kw_only=True)
class TruncationFields:
    """Without any of them a text that is too long is refused."""

    truncate: bool | Literal["NONE", "START", "END"] | None = None  # Jina and TEI; Cohere and NIM
    truncation: bool | None = None  # Voyage
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1)] | None = None  # vLLM; -1: what the model takes
    truncation_direction: Literal["Right", "right", "Left", "left"] | None = None  # TEI
    truncation_side: Literal["right", "left"] | None = None  # vLLM


def wanted_limit(fields: TruncationFields, info: EmbeddingInfo) -> int | None:
    """To how many tokens texts are to be cut, None: not at all. Raises ApiError 400 naming the field."""
    for name in ("truncate", "truncation_direction", "truncation_side"):
        if getattr(fields, name) in ("START", "Left", "left"):
            raise bad_request(f"{name}: texts are cut at their end, not at their beginning", name)
    number = fields.truncate_prompt_tokens
    if number is not None and not (number == -1 or 1 <= number <= info.max_tokens):
        message = f"truncate_prompt_tokens: expected 1 to {info.max_tokens}, what the model takes, or -1 for that"
        raise bad_request(message, "truncate_prompt_tokens")
    if number is not None and number > 0:
        return number
    return info.max_tokens if number == -1 or fields.truncation or fields.truncate in (True, "END") else None
