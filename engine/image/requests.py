"""What the image engine is asked to do. Frozen: a request never changes once it is submitted."""

import attrs

from engine.native.sd.image import ImageParams, RgbImage


@attrs.frozen(kw_only=True)
class ImageRequest:
    """``n`` images that differ in their seeds: ``params.seed``, ``params.seed`` + 1, …"""

    id: str  # unique in the process; on every log line
    params: ImageParams
    n: int = 1
    canny: bool = False  # use the edges of ``params.control_image`` in its place
    upscale_repeats: int = 0  # how often each image is upscaled


@attrs.frozen(kw_only=True)
class UpscaleRequest:
    """One image, upscaled ``repeats`` times."""

    id: str
    image: RgbImage
    repeats: int = 1


type AnyRequest = ImageRequest | UpscaleRequest
