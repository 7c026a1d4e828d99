"""Image files to pixels. Everything here is for worker threads."""

import contextlib
import io
import warnings
from typing import Final

import attrs
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import InvalidRequest

MOST_PIXELS: Final = 64_000_000
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_WHITE: Final = (255, 255, 255, 255)

# Pillow would warn at some sizes and refuse others; ours are looked at before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# It warns of damaged metadata, which is nothing to us.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@attrs.frozen
class Picture:
    """``rgb``: width x height x 3 bytes, row by row."""

    width: int
    height: int
    rgb: bytes


def decode_image(data: bytes, longest: int = 0) -> Picture:
    """The first picture of an image file, upright, on white, scaled so that no side is over ``longest`` (0: as it is).

    Raises InvalidRequest for what is no image of a known format, is damaged, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            return _pixels(image, longest)
    except InvalidRequest:
        raise
    except MemoryError:
        raise InvalidRequest("the image needs more memory than there is") from None
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, UnidentifiedImageError) else ""
        known = ", ".join(FORMATS)
        raise InvalidRequest(
            f"the image is damaged ({reason})" if reason else f"this is no image of a known format ({known})"
        ) from None


def check_size(width: int, height: int) -> None:
    """Raise InvalidRequest for an image that is not to be decoded."""
    if width * height > MOST_PIXELS:
        raise InvalidRequest(f"an image of {width} x {height} has more than {MOST_PIXELS // 1_000_000} megapixels")
    if min(width, height) < 1:
        raise InvalidRequest("the image is empty")


def _pixels(image: Image.Image, longest: int) -> Picture:
    if longest and max(image.size) > longest:
        image.draft("RGB", (longest, longest))  # a JPEG decodes to a fraction of its size in a fraction of the time
    image.load()
    upright: Image.Image = image
    with contextlib.suppress(Exception):  # the rotation is in metadata that cameras and editors often damage
        upright = ImageOps.exif_transpose(image) or image
    opaque = _on_white(eight_bits(upright))
    if longest and max(opaque.size) > longest:
        opaque.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return Picture(opaque.width, opaque.height, opaque.tobytes())


def eight_bits(image: Image.Image) -> Image.Image:
    """Modes with more than 8 bits a channel, which Pillow would cut off at 255 instead of scaling."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, np.float64)
    if image.mode == "F":  # 0 to 1, or 0 to 255
        values = values * (255.0 if np.nanmax(values, initial=0.0) <= 1.0 else 1.0)
    elif values.max(initial=0) > 255:
        values = values / 257.0
    return Image.fromarray(np.clip(np.nan_to_num(values), 0, 255).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not (image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info):
        return image.convert("RGB")
    colours = image.convert("RGBA")
    ground = Image.new("RGBA", colours.size, _WHITE)
    ground.alpha_composite(colours)
    return ground.convert("RGB")
