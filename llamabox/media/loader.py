"""From the media parts of messages to what the prompt holds of them, off the event loop."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from engine.errors import ContextExceeded, InvalidRequest
from engine.text.media import MediaItem, MediaReader, item_cells
from llamabox.media.images import decode_image
from llamabox.media.parts import MEDIA_PARTS, WHERE, source_of
from llamabox.media.sounds import decode_sound, is_wav
from llamabox.media.sources import Sources

THREADS: Final = 2  # an image of 64 megapixels takes some hundred megabytes while it is decoded


@attrs.define(kw_only=True)
class MediaLoader:
    """``n_ctx``: tokens of a slot; ``longest``: pixels of an image's longer side, 0: as it is."""

    reader: MediaReader
    sources: Sources
    n_ctx: int
    longest: int = 0
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(THREADS), init=False)

    async def load(self, messages: Sequence[Mapping[str, Any]]) -> list[MediaItem]:
        """What the media of the messages become, in their order. May be cancelled between any two of them.

        Raises InvalidRequest naming the part, ContextExceeded as soon as they cannot fit.
        """
        return await self._all((kind, source, where) for kind, source, where in _media_in(messages))

    async def load_data(self, data: Sequence[str], where: str) -> list[MediaItem]:
        """The same for base64 texts, each an image or a sound."""
        return await self._all((None, text, f"{where}[{index}]") for index, text in enumerate(data))

    async def _all(self, wanted: Iterable[tuple[str | None, str, str]]) -> list[MediaItem]:
        items: list[MediaItem] = []
        known: dict[str, MediaItem] = {}
        total = 0
        for kind, source, where in wanted:
            item = known.get(source)
            if item is None:
                item = known[source] = await self._one(kind, source, where)
            items.append(item)
            total += item_cells(item)
            if total >= self.n_ctx:
                raise ContextExceeded(total, self.n_ctx, at_least=True)
        return items

    async def _one(self, kind: str | None, source: str, where: str) -> MediaItem:
        try:
            data = await self.sources.read(source)
            return await trio.to_thread.run_sync(self._prepare, kind, data, limiter=self._limiter)
        except InvalidRequest as error:
            raise InvalidRequest(f"{where}: {error.message}", where) from None

    def _prepare(self, kind: str | None, data: bytes) -> MediaItem:
        if kind == "input_audio" or (kind is None and _sounds(data)):
            if not self.reader.audio:
                raise InvalidRequest("the model takes no sound")
            return self.reader.sound(decode_sound(data, self.reader))
        if not self.reader.vision:
            raise InvalidRequest("the model takes no images")
        picture = decode_image(data, self.longest)
        return self.reader.image(picture.width, picture.height, picture.rgb)


def _sounds(data: bytes) -> bool:
    """Whether data of an unknown kind is sound rather than an image."""
    return is_wav(data) or data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2)


def _media_in(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for index, message in enumerate(messages):
        content = message.get("content")
        for place, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, Mapping) and part.get("type") in MEDIA_PARTS:
                where = str(part.get(WHERE) or f"messages[{index}].content[{place}]")
                yield str(part["type"]), source_of(part, where), where
