"""Uploaded files to raw pictures of the wanted size. Blocks: to be used in a worker thread."""

import io
import warnings
from typing import Final

import PIL.Image
import PIL.ImageOps

from engine.errors import InvalidRequest
from engine.native.sd.image import Mask, RgbImage
from llamabox.media.images import eight_bits

MOST_PIXELS: Final = 64 * 1024 * 1024
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_WHITE: Final = (255, 255, 255, 255)


def decode_image(data: bytes, param: str, size: tuple[int, int]) -> RgbImage:
    """The picture in RGB, scaled to ``size`` (width, height). Raises InvalidRequest, which names ``param``."""
    image = _scaled(_flat(_open(data, param)), size)
    return RgbImage(width=size[0], height=size[1], data=image.tobytes())


def decode_mask(data: bytes, param: str, size: tuple[int, int], image: bytes) -> Mask:
    """White is repainted, and so is what is transparent. It must be as large as the file ``image``.

    Raises InvalidRequest, which names ``param``.
    """
    mask, whole = _open(data, param), _open(image, "image")
    if mask.size != whole.size:
        raise InvalidRequest(
            f"the mask has {mask.width}x{mask.height} pixels, the image {whole.width}x{whole.height}", param
        )
    grey = _scaled(_flat(mask), size).convert("L")
    return Mask(width=size[0], height=size[1], data=grey.tobytes())


def _open(data: bytes, param: str) -> PIL.Image.Image:
    """The upright first picture of the file, all of its pixels read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of much that it can read
            image = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise InvalidRequest(
                    f"the {param} has {image.width}x{image.height} pixels, at most {MOST_PIXELS} are possible", param
                )
            image.load()
            return PIL.ImageOps.exif_transpose(image)
    except PIL.UnidentifiedImageError as error:
        known = ", ".join(_FORMATS)
        raise InvalidRequest(f"the {param} is no image that can be read ({known})", param) from error
    except PIL.Image.DecompressionBombError as error:
        raise InvalidRequest(f"the {param} is too large, at most {MOST_PIXELS} pixels are possible", param) from error
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError) as error:
        raise InvalidRequest(f"the {param} cannot be decoded: {error}", param) from error


def _flat(image: PIL.Image.Image) -> PIL.Image.Image:
    """In RGB of 8 bits; what is transparent becomes white."""
    image = eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")


def _scaled(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    return image if image.size == size else image.resize(size, PIL.Image.Resampling.LANCZOS)
