"""Puts tokens and media together to a prompt."""

from collections.abc import Iterable, Sequence

import attrs

from engine.text.media import MediaChunk, MediaItem, MediaSpan


@attrs.frozen
class Placed:
    """The tokens of a prompt, and where media stand in it."""

    tokens: Sequence[int]
    media: tuple[MediaSpan, ...] = ()


def place(items: Iterable[MediaItem]) -> Placed:
    """Items one behind the other; plain text is an item that is one list of tokens."""
    tokens: list[int] = []
    media: list[MediaSpan] = []
    for item in items:
        for part in item:
            if isinstance(part, MediaChunk):
                media.append(MediaSpan(len(tokens), part))
                tokens += part.tokens()
            else:
                tokens += part
    return Placed(tokens, tuple(media))
