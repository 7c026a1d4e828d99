"""What the image thread tells the loop.

Per request: ImageQueued*, then for each image ImageProgress* and ImagePreview* and one ImageDone, then exactly one
terminal event: ImagesFinished or ImagesFailed.
"""

import attrs

from engine.errors import EngineError
from engine.native.sd.image import RgbImage


@attrs.frozen(kw_only=True)
class ImageTimings:
    """Of one image, or summed over a request's. Milliseconds."""

    queue_ms: float = 0.0  # from submission to the first image's beginning
    process_ms: float = 0.0  # encoding prompts and images
    generate_ms: float = 0.0  # sampling, decoding, upscaling
    steps: int = 0


@attrs.frozen(kw_only=True)
class ImageQueued:
    """The request waits; ``ahead`` requests come before it."""

    ahead: int


@attrs.frozen(kw_only=True)
class ImageProgress:
    """Image ``index`` has done ``step`` of ``steps``; (0, steps) when it begins."""

    index: int
    step: int
    steps: int


@attrs.frozen(kw_only=True)
class ImagePreview:
    """What image ``index`` looks like at ``step`` of ``steps``. A client that does not read misses some."""

    index: int
    step: int
    steps: int
    frame: RgbImage


@attrs.frozen(kw_only=True)
class ImageDone:
    """Image ``index`` of the request."""

    index: int
    image: RgbImage
    seed: int
    timings: ImageTimings


@attrs.frozen(kw_only=True)
class ImagesFinished:
    """All images are done."""

    timings: ImageTimings


@attrs.frozen(kw_only=True)
class ImagesFailed:
    """The request could not go on; images that are done have been delivered."""

    error: EngineError


type ImageEvent = ImageQueued | ImageProgress | ImagePreview | ImageDone | ImagesFinished | ImagesFailed
type ImageTerminalEvent = ImagesFinished | ImagesFailed
