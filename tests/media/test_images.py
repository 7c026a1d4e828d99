"""Image files to pixels: every format and mode, and what is damaged, in every way that Pillow knows."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.errors import InvalidRequest
from llamabox.media.images import FORMATS, MOST_PIXELS, Picture, decode_image
from tests.models.pictures import encoded, picture, png

# As in a running server (pytest sets filters of its own).
pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL")


def pixels(found: Picture) -> np.ndarray:
    return np.frombuffer(found.rgb, np.uint8).reshape(found.height, found.width, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format(kind: str) -> None:
    original = Image.new("RGB", (40, 30), (200, 100, 50))
    found = decode_image(encoded(original, kind))
    assert (found.width, found.height) == (40, 30)
    assert np.abs(pixels(found).astype(int) - np.asarray(original)).max() <= 12  # GIF has 256 colours, JPEG is lossy


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 0x8080, (128, 128, 128)),
    ],
)
def test_each_mode_as_png(mode: str, colour: object, wanted: tuple[int, ...]) -> None:
    found = decode_image(encoded(Image.new(mode, (4, 4), colour)))
    assert tuple(pixels(found)[0, 0]) == pytest.approx(wanted, abs=1)


def test_transparent_palette_is_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    found = decode_image(encoded(image, transparency=0))
    assert tuple(pixels(found)[0, 0]) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    found = decode_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind))
    red, green, blue = pixels(found)[4, 4]
    assert red > 200 > 60 > max(green, blue)


@pytest.mark.parametrize(("value", "wanted"), [(0.5, 128), (100.0, 100), (float("nan"), 0)])
def test_floating_point_tiff(value: float, wanted: int) -> None:
    found = decode_image(encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"))
    assert pixels(found)[0, 0, 0] == wanted


def test_the_first_frame_of_an_animation() -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    for kind in ("GIF", "WEBP"):
        found = decode_image(encoded(first, kind, save_all=True, append_images=[second]))
        assert pixels(found)[0, 0, 0] > 200


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 30)), (3, (40, 30)), (6, (30, 40)), (8, (30, 40))])
def test_the_rotation_of_cameras(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_image(encoded(picture(0), "JPEG", exif=exif))
    assert (found.width, found.height) == size


def test_damaged_metadata_is_no_reason_to_refuse() -> None:
    data = encoded(picture(0), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 30)
    assert decode_image(data).width == 40


@pytest.mark.parametrize(("longest", "size"), [(0, (800, 400)), (224, (224, 112)), (900, (800, 400))])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_scaling_keeps_the_ratio(kind: str, longest: int, size: tuple[int, int]) -> None:
    found = decode_image(encoded(picture(0, (800, 400)), kind), longest)
    assert (found.width, found.height) == size
    assert len(found.rgb) == size[0] * size[1] * 3


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [8_001, 10_000, 60_000, 2**31 - 1])
def test_bombs_are_not_decoded(side: int) -> None:
    assert side * side > MOST_PIXELS
    with pytest.raises(InvalidRequest, match=r"megapixels|damaged"):
        decode_image(png_of(side, side, b""))


def test_a_bomb_in_the_metadata() -> None:
    text = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(100_000_000)))
    data = png()
    with pytest.raises(InvalidRequest, match="damaged"):
        decode_image(data[:33] + text + data[33:])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"\xff\xd8\xff",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"II*\0\x08\0\0\0",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        png_of(0, 5, b""),
        png_of(5, 5, b"short"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_image(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_images_that_are_cut_off_are_refused_or_whole(kind: str) -> None:
    """Some formats have room at their end; what comes out is never half an image."""
    data = encoded(picture(0), kind)
    whole = decode_image(data)
    for length in range(0, len(data), max(1, len(data) // 60)):
        try:
            assert decode_image(data[:length]) == whole
        except InvalidRequest:
            continue


@pytest.mark.parametrize("kind", FORMATS)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damaged_images_give_an_image_or_a_refusal(kind: str, at: int, noise: bytes) -> None:
    data = bytearray(encoded(picture(0, (16, 12)), kind))
    at %= len(data)
    data[at : at + len(noise)] = noise
    try:
        found = decode_image(bytes(data), 224)
    except InvalidRequest:
        return
    assert len(found.rgb) == found.width * found.height * 3
