"""Requests of the tests."""

from engine.image.requests import ImageRequest
from engine.native.sd.image import ImageParams, RgbImage
from engine.native.sd.options import ImageModelOptions, Sampler
from tests.models.tiny_sd import TinySd

SIDE = 64


def params(prompt: str = "a cat", **fields: object) -> ImageParams:
    defaults = {"width": SIDE, "height": SIDE, "steps": 3, "seed": 7, "sampler": Sampler.EULER, "cfg_scale": 1.0}
    return ImageParams(prompt=prompt, **(defaults | fields))


def ask(
    request_id: str, *, n: int = 1, canny: bool = False, upscale_repeats: int = 0, **fields: object
) -> ImageRequest:
    return ImageRequest(id=request_id, params=params(**fields), n=n, canny=canny, upscale_repeats=upscale_repeats)


def gradient(width: int = SIDE, height: int = SIDE) -> RgbImage:
    data = bytes(value for y in range(height) for x in range(width) for value in (4 * x % 256, 4 * y % 256, 90))
    return RgbImage(width=width, height=height, data=data)


def model_options(tiny: TinySd, **changes: object) -> ImageModelOptions:
    return ImageModelOptions(**({"model": str(tiny.model), "taesd": str(tiny.taesd)} | changes))
