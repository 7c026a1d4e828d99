"""An image job as OpenAI's own stream events, for who asks with ``partial_images``."""

import base64
from typing import Any

import attrs
import msgspec

from api.images.job import ImageJob
from api.images.render import added, encoded, usage
from engine.image.events import ImageDone, ImageEvent, ImagePreview, ImageProgress, ImageTimings
from engine.native.sd.image import RgbImage
from llamabox.images.codec import ImageCodec


def partial_steps(steps: int, pictures: int) -> frozenset[int]:
    """After which of an image's ``steps`` one of its ``pictures`` is due: evenly, and never after the last."""
    due = {max(1, round(steps * place / (pictures + 1))) for place in range(1, pictures + 1)}
    return frozenset(due - {steps})


@attrs.define
class OpenAIImageRenderer:
    """Events to OpenAI's: ``partial_image`` for some steps, ``completed`` for each image. They end without [DONE].

    Of several images each event says by ``index`` whose it is. Images cost no tokens here: those counts are 0.
    """

    job: ImageJob
    codec: ImageCodec
    prefix: str  # of the events' names: image_generation, image_edit
    _frame: RgbImage | None = attrs.field(default=None, init=False)
    _pictures: int = attrs.field(default=0, init=False)  # of this image, sent
    _total: ImageTimings = attrs.field(factory=ImageTimings, init=False)

    async def feed(self, event: ImageEvent) -> bytes:
        """Whole events, or b"" where there is nothing to say."""
        match event:
            case ImagePreview():
                self._frame = event.frame
                return b""
            case ImageProgress():
                return await self._progress(event)
            case ImageDone():
                return await self._done(event)
            case _:
                return b""  # it waits, or it was the last

    async def _progress(self, event: ImageProgress) -> bytes:
        frame, self._frame = self._frame, None
        if event.step == 0:
            self._pictures = 0
        if frame is None or event.step not in partial_steps(event.steps, self.job.partial_images or 0):
            return b""
        data = await self.codec.encode(frame, self.job.output, quality=self.job.quality)
        number, self._pictures = self._pictures, self._pictures + 1
        body = {"partial_image_index": number, "index": event.index}
        return self._event("partial_image", base64.b64encode(data).decode(), frame, body)

    async def _done(self, event: ImageDone) -> bytes:
        self._frame = None
        self._total = added(self._total, event.timings)
        tokens = {
            "input_tokens": 0,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
            "output_tokens": 0,
            "total_tokens": 0,
        }
        body: dict[str, Any] = {"index": event.index}
        if self.job.include_usage:
            body["usage"] = tokens | usage(self._total)
        return self._event("completed", await encoded(self.codec, self.job, event), event.image, body)

    def _event(self, kind: str, picture: str, image: RgbImage, body: dict[str, Any]) -> bytes:
        name = f"{self.prefix}.{kind}"
        whole = {
            "type": name,
            "b64_json": picture,
            "created_at": self.job.created,
            "background": "opaque",
            "output_format": self.job.output.value,
            "quality": "auto",
            "size": f"{image.width}x{image.height}",
        }
        return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(whole | body) + b"\n\n"
