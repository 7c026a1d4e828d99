"""A projector without a model."""

from collections.abc import Buffer

from engine.errors import InvalidRequest
from engine.text.media import MediaChunk, MediaItem, chunk_keys


class FakeReader:
    """An image becomes a token 60 ("<"), a chunk of as many positions as it is wide, and a token 62 (">").

    A sound becomes a chunk of 7 positions alone.
    """

    def __init__(self, *, vision: bool = True, audio: bool = True) -> None:
        self.vision = vision
        self.audio = audio
        self.sample_rate = 16_000 if audio else 0
        self.images: list[tuple[int, int]] = []

    def image(self, width: int, height: int, rgb: Buffer) -> MediaItem:
        if width == 13:
            raise InvalidRequest("13 is unlucky")
        self.images.append((width, height))
        return [[60], MediaChunk(next(chunk_keys("image", (width, height), rgb)), width, width * height), [62]]

    def sound(self, samples: Buffer) -> MediaItem:
        return [MediaChunk(next(chunk_keys("sound", (), samples)), 7, 7)]

    def mp3(self, data: bytes) -> Buffer:
        return bytes(4_000)
