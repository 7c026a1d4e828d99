"""Raw pictures to files. Blocks: to be used in a worker thread."""

import enum
import io

from engine.native.sd.image import RgbImage

PARAMETERS = "parameters"  # the key under which web UIs look for how a picture was made


class OutputFormat(enum.Enum):
    """File formats of pictures."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


def encode_image(
    image: RgbImage, output: OutputFormat = OutputFormat.PNG, *, quality: int = 95, parameters: str = ""
) -> bytes:
    """The picture as a file. ``quality`` 0 to 100 (JPEG, WebP); ``parameters`` is kept in a PNG as text."""
    # Imported late: a server of text alone needs no image library.
    import PIL.Image
    from PIL.PngImagePlugin import PngInfo

    picture = PIL.Image.frombytes("RGB", (image.width, image.height), image.data)
    file = io.BytesIO()
    match output:
        case OutputFormat.PNG:
            info = PngInfo()
            if parameters:
                info.add_text(PARAMETERS, parameters)
            # The strongest compression takes ten times as long and saves a hundredth.
            picture.save(file, "PNG", pnginfo=info, compress_level=4)
        case OutputFormat.JPEG:
            picture.save(file, "JPEG", quality=quality)
        case OutputFormat.WEBP:
            picture.save(file, "WEBP", quality=quality)
    return file.getvalue()
