"""How the image engine is to run."""

import attrs

from engine.native.sd.options import ImageModelOptions, UpscalerOptions


@attrs.frozen(kw_only=True)
class ImageEngineOptions:
    """The image engine's settings. Sizes in pixels, multiples of 64.

    ``niceness``: how far its threads stand back (0 to 19, Linux): where text is generated beside, they get what that
    leaves; alone they get everything. Images have threads of their own, so the text engine's keep their priority.
    """

    model: ImageModelOptions
    upscaler: UpscalerOptions | None = None
    max_width: int = 1024
    max_height: int = 1024
    max_batch: int = 4
    niceness: int = 10
    trial: bool = True  # try the model and its LoRAs in a child process first: what kills that would kill this one
    warmup: bool = False  # one small image before ready
    preview_buffer: int = 2  # previews that a request may have unread before the oldest is dropped
