"""What an image job's events become: one object, or a stream of them."""

import base64
from collections.abc import Sequence
from typing import Any

import attrs

from api.figures import finite, per_second
from api.images.job import ImageJob
from api.images.state import percent
from api.sse import DONE, Head
from engine.image.events import ImageDone, ImageEvent, ImagePreview, ImageProgress, ImagesFinished, ImageTimings
from engine.native.sd.image import RgbImage
from llamabox.images.codec import ImageCodec
from llamabox.images.parameters import parameters_text


def usage(timings: ImageTimings) -> dict[str, float]:
    """A request's figures; a generation is a sampling step."""
    return {
        "time_to_process_ms": finite(timings.process_ms),
        "time_per_generation_ms": finite(timings.generate_ms / timings.steps) if timings.steps else 0.0,
        "generation_per_second": per_second(timings.steps, timings.generate_ms),
    }


def added(total: ImageTimings, timings: ImageTimings) -> ImageTimings:
    """A request's figures with those of one more image."""
    return ImageTimings(
        queue_ms=timings.queue_ms,
        process_ms=total.process_ms + timings.process_ms,
        generate_ms=total.generate_ms + timings.generate_ms,
        steps=total.steps + timings.steps,
    )


async def encoded(codec: ImageCodec, job: ImageJob, done: ImageDone) -> str:
    """A finished image as the job wants it, in base64."""
    params = job.request.params
    text = parameters_text(params, done.seed, job.model)
    data = await codec.encode(done.image, job.output, quality=job.quality, parameters=text)
    return base64.b64encode(data).decode()


def whole(job: ImageJob, images: Sequence[str], timings: ImageTimings) -> dict[str, Any]:
    """The reply of a request that is not streamed."""
    data = [
        {"index": index, "object": "image", "progress": 100, "b64_json": image, "finish_reason": "stop"}
        for index, image in enumerate(images)
    ]
    return {"created": job.created, "model": job.model, "object": "list", "data": data, "usage": usage(timings)}


@attrs.define
class ImageStreamRenderer:
    """Events to server-sent events, in order.

    The last step has no event of its own: the image takes its number, so that a preview never does.
    """

    job: ImageJob
    codec: ImageCodec
    _head: Head = attrs.field(init=False)
    _preview: RgbImage | None = attrs.field(default=None, init=False)
    _steps: int = attrs.field(default=0, init=False)
    _total: ImageTimings = attrs.field(factory=ImageTimings, init=False)

    @_head.default
    def _start(self) -> Head:
        return Head(created=self.job.created, model=self.job.model, object="list")

    async def feed(self, event: ImageEvent) -> bytes:
        """Whole events, or b"" where there is nothing to say yet."""
        match event:
            case ImagePreview():
                self._preview = event.frame
                return b""
            case ImageProgress():
                return await self._progress(event)
            case ImageDone():
                return await self._done(event)
            case ImagesFinished():
                return DONE
            case _:
                return b""  # it waits

    async def _progress(self, event: ImageProgress) -> bytes:
        self._steps = event.steps
        frame, self._preview = self._preview, None
        if event.step == event.steps:
            return b""
        share = percent(event.step, event.steps)
        body = {"index": event.index, "object": "image.chunk", "progress": share, "progressed_steps": event.step}
        if frame is None:
            return self._event(body)
        data = await self.codec.encode(frame, self.job.output, quality=self.job.quality)
        return self._pieces(body, base64.b64encode(data).decode(), {}, None)

    async def _done(self, event: ImageDone) -> bytes:
        job = self.job
        self._preview = None
        body = {"index": event.index, "object": "image.chunk", "progress": 100, "progressed_steps": self._steps}
        text = await encoded(self.codec, job, event)
        self._total = added(self._total, event.timings)
        last = event.index + 1 == job.request.n and job.include_usage
        return self._pieces(body, text, {"finish_reason": "stop"}, usage(self._total) if last else None)

    def _pieces(
        self, body: dict[str, Any], text: str, ending: dict[str, Any], figures: dict[str, float] | None
    ) -> bytes:
        """``text`` in one event, or in several; the last one carries what ends the image."""
        size = self.job.chunk_size or len(text)
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        events = [self._event(body | {"b64_json": piece}) for piece in pieces[:-1]]
        events.append(self._event(body | {"b64_json": pieces[-1]} | ending, figures))
        return b"".join(events)

    def _event(self, body: dict[str, Any], figures: dict[str, float] | None = None) -> bytes:
        return self._head.event({"data": [body], "usage": figures})
