"""Encoding and decoding beside the event loop."""

from collections.abc import Callable

import attrs
import trio

from engine.native.sd.image import Mask, RgbImage
from llamabox.images.encode import OutputFormat, encode_image

_THREADS = 2


@attrs.define
class ImageCodec:
    """Pictures to files and back, in a few threads: a megapixel takes a tenth of a second, Pillow without the lock.

    A cancelled call ends when its picture is done.
    """

    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_THREADS), init=False)

    async def encode(
        self,
        image: RgbImage,
        output: OutputFormat = OutputFormat.PNG,
        *,
        quality: int = 95,
        parameters: str = "",
    ) -> bytes:
        """See ``encode_image``."""
        return await self._run(lambda: encode_image(image, output, quality=quality, parameters=parameters))

    async def decode_image(self, data: bytes, param: str, size: tuple[int, int]) -> RgbImage:
        """See ``decode_image``."""
        from llamabox.images.decode import decode_image  # late, like the image library that it brings along

        return await self._run(lambda: decode_image(data, param, size))

    async def decode_mask(self, data: bytes, param: str, size: tuple[int, int], image: bytes) -> Mask:
        """See ``decode_mask``."""
        from llamabox.images.decode import decode_mask

        return await self._run(lambda: decode_mask(data, param, size, image))

    async def _run[T](self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
