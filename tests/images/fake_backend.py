"""A backend without a model: the picture is a function of the parameters, and each step can be held."""

import zlib
from collections.abc import Callable

import attrs

from engine.errors import NativeError
from engine.image.families import kind_of
from engine.image.info import ImageModelInfo
from engine.native.sd.context import Generated
from engine.native.sd.image import ImageParams, RgbImage
from engine.native.sd.options import Preview

INFO = ImageModelInfo(
    path="fake.safetensors",
    version="Flux",
    kind=kind_of("Flux"),
    n_threads=1,
    max_width=1024,
    max_height=1024,
    max_batch=4,
    loras=("a.safetensors", "b.safetensors"),
    has_control_net=True,
    upscale_factor=2,
    can_abort=True,
)


def picture(params: ImageParams) -> RgbImage:
    """What the fake makes of the parameters."""
    key = zlib.crc32(repr(attrs.evolve(params, preview=Preview.NONE)).encode())
    row = key.to_bytes(4) * (3 * params.width)
    return RgbImage(width=params.width, height=params.height, data=row[: 3 * params.width] * params.height)


class FakeImageBackend:
    """Satisfies engine.image.backend.ImageBackend."""

    def __init__(self, info: ImageModelInfo = INFO) -> None:
        self.info = info
        self.before_step: Callable[[int], None] = lambda step: None  # within a call, before it reports the step
        self.fail: Exception | None = None
        self.aborting = False
        self.aborts = 0
        self.closed = False
        self.made: list[ImageParams] = []

    def generate(
        self,
        params: ImageParams,
        on_progress: Callable[[int, int], None],
        on_preview: Callable[[int, RgbImage], None],
    ) -> Generated | None:
        assert not self.closed
        self.made.append(params)
        for step in range(params.steps + 1):
            self.before_step(step)
            if self.aborting and self.info.can_abort:
                return None
            if self.fail is not None:
                raise self.fail
            if step and params.preview is not Preview.NONE:
                on_preview(step, RgbImage(width=1, height=1, data=bytes([step, 0, 0])))
            on_progress(step, params.steps)
        return Generated(image=picture(params), process_seconds=0.5, generate_seconds=2.0, steps=params.steps)

    def upscale(self, image: RgbImage) -> RgbImage | None:
        self.before_step(-1)
        if self.aborting and self.info.can_abort:
            return None
        return RgbImage(width=2 * image.width, height=2 * image.height, data=image.data * 4)

    def find_edges(self, image: RgbImage) -> RgbImage:
        if image.is_one_colour:
            raise NativeError("no edges")
        return attrs.evolve(image, data=bytes(255 - value for value in image.data))

    def abort(self) -> None:
        self.aborts += 1
        self.aborting = True

    def clear_abort(self) -> None:
        self.aborting = False

    def close(self) -> None:
        self.closed = True
