"""What OpenAI's image models offer and these do not: refused by name instead of ignored."""

from typing import Any, Final, Literal

import attrs

from api.errors import bad_request

_WHY: Final = {
    "complexity": "these models plan nothing; sample_steps says how long they compute",
    "frame_count": "pictures do not move here",
    "frame_duration_ms": "pictures do not move here",
    "svg": "pictures have pixels here",
    "markup": "an edit takes image, mask and control",
}


@attrs.frozen(kw_only=True)
class UnofferedFields:
    """Any value of ``complexity`` to ``markup`` is refused."""

    background: Literal["auto", "opaque", "transparent"] | None = None
    input_fidelity: Literal["low", "high"] | None = None
    complexity: Any = None
    frame_count: Any = None
    frame_duration_ms: Any = None
    svg: Any = None
    markup: Any = None


def refuse_unoffered(fields: UnofferedFields) -> None:
    """Raises ApiError 400 naming the field."""
    for name, reason in _WHY.items():
        if getattr(fields, name) is not None:
            raise bad_request(f"{name}: {reason}", name)
    if fields.background == "transparent":
        raise bad_request("background: pictures are opaque here", "background")
    if fields.input_fidelity == "high":
        raise bad_request("input_fidelity: strength says how much of the image is repainted", "input_fidelity")
