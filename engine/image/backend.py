"""What the image loop needs of a model: the stable-diffusion.cpp adapter and the fake of the tests both satisfy it.

A backend is used by one thread only, ``abort`` and ``clear_abort`` excepted.
"""

from collections.abc import Callable
from typing import Protocol

from engine.image.info import ImageModelInfo
from engine.native.sd.context import Generated
from engine.native.sd.image import ImageParams, RgbImage

type OnProgress = Callable[[int, int], None]
type OnPreview = Callable[[int, RgbImage], None]


class ImageBackend(Protocol):
    """A loaded image model, and an upscaler if there is one."""

    info: ImageModelInfo

    def generate(self, params: ImageParams, on_progress: OnProgress, on_preview: OnPreview) -> Generated | None:
        """One image; None: aborted. The functions are called within, with (step, steps) and (step, picture).

        Raises NativeError when the library fails or computes nonsense.
        """

    def upscale(self, image: RgbImage) -> RgbImage | None:
        """The image ``info.upscale_factor`` times as large; None: aborted. Raises NativeError."""

    def find_edges(self, image: RgbImage) -> RgbImage:
        """White edges on black. Raises NativeError."""

    def abort(self) -> None:
        """Make the running call return None soon, where ``info.can_abort``. Any thread; until ``clear_abort``."""

    def clear_abort(self) -> None:
        """Let calls run again. Any thread."""

    def close(self) -> None:
        """Free everything. Idempotent."""
