"""Pictures as files: uploads that are none, bombs, masks, formats, the text in PNGs."""

import io
import struct
import zlib

import PIL.Image
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.native.sd.image import RgbImage
from engine.native.sd.options import Sampler
from llamabox.images.codec import ImageCodec
from llamabox.images.decode import MOST_PIXELS, decode_image, decode_mask
from llamabox.images.encode import OutputFormat, encode_image
from llamabox.images.parameters import SAMPLER_NAMES, parameters_text
from tests.images.asking import gradient, params

SIZE = (64, 64)


def file_of(image: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of a size, without any pixel."""

    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT" + zlib.compress(b"")) + chunk(b"IEND")


def test_what_is_encoded_losslessly_comes_back() -> None:
    assert decode_image(encode_image(gradient()), "image", SIZE) == gradient()


@pytest.mark.parametrize("output", OutputFormat)
def test_every_format_can_be_read_by_others(output: OutputFormat) -> None:
    data = encode_image(gradient(80, 40), output, quality=90)
    image = PIL.Image.open(io.BytesIO(data))
    assert image.format == output.value.upper()
    assert image.size == (80, 40)
    assert output.media_type == f"image/{output.value}"
    red = image.convert("RGB").getpixel((60, 20))[0]
    assert abs(red - 240) < 30


def test_worse_quality_is_smaller() -> None:
    for output in (OutputFormat.JPEG, OutputFormat.WEBP):
        assert len(encode_image(gradient(), output, quality=10)) < len(encode_image(gradient(), output, quality=95))


@pytest.mark.parametrize("text", ["a cat\nSteps: 20", "caf\u00e9 \N{GRINNING FACE}\nSteps: 1"])
def test_a_png_carries_its_parameters(text: str) -> None:
    image = PIL.Image.open(io.BytesIO(encode_image(gradient(), parameters=text)))
    assert image.info["parameters"] == text


def test_the_parameters_are_in_the_web_uis_form() -> None:
    made = params("a cat, (nice:1.2)", negative_prompt="a dog", cfg_scale=4.5, steps=20, sampler=Sampler.EULER_A)
    assert parameters_text(made, 42, "model.v1") == (
        "a cat, (nice:1.2)\n"
        "Negative prompt: a dog\n"
        "Steps: 20, CFG scale: 4.5, Guidance: 3.5, Seed: 42, Size: 64x64, Model: model.v1, Sampler: Euler a"
    )
    plain = parameters_text(params("a cat"), 1, 'odd, "name"')
    assert plain.startswith("a cat\nSteps: 3, CFG scale: 1, ")
    assert 'Model: "odd, \\"name\\"", ' in plain
    assert set(SAMPLER_NAMES) == set(Sampler)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_pictures_of_all_modes_become_rgb_of_the_size(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    source = PIL.Image.new("L", (30, 20), 255)
    image = source.convert("I").convert(mode) if mode == "I;16" else source.convert(mode)
    assert decode_image(file_of(image, kind), "image", (64, 128)).data[:1] in (b"\xff", b"\xfe", b"\x00")
    assert len(decode_image(file_of(image, kind), "image", (64, 128)).data) == 64 * 128 * 3


def test_sixteen_bits_of_grey_keep_their_shades() -> None:
    grey = PIL.Image.new("I;16", (3, 1))
    for place, value in enumerate((0, 32_896, 65_535)):
        grey.putpixel((place, 0), value)
    file = file_of(grey)
    assert list(decode_image(file, "image", (3, 1)).data[::3]) == [0, 128, 255]
    assert list(decode_mask(file, "mask", (3, 1), file).data) == [0, 128, 255]


def test_transparent_is_white_and_cameras_are_turned() -> None:
    assert decode_image(file_of(PIL.Image.new("RGBA", (4, 4), (255, 0, 0, 0))), "image", (1, 1)).data == b"\xff" * 3
    turned = PIL.Image.new("RGB", (2, 1))
    turned.putpixel((0, 0), (255, 255, 255))
    exif = PIL.Image.Exif()
    exif[0x0112] = 3  # upside down
    data = file_of(turned, exif=exif)
    assert decode_image(data, "image", (2, 1)).data == bytes(3) + b"\xff" * 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no image"),
        (b"just text", "no image"),
        (b"%PDF-1.7", "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
        (png_header(100000, 100000), f"at most {MOST_PIXELS}"),
        (png_header(8193, 8192), f"at most {MOST_PIXELS}"),
        (png_header(64, 64), "cannot be decoded"),
        (encode_image(gradient())[:80], "cannot be decoded"),
        (encode_image(gradient(), OutputFormat.JPEG)[:400], "cannot be decoded"),
        (encode_image(gradient(), OutputFormat.WEBP)[:100], "cannot be decoded|no image"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        decode_image(data, "control", SIZE)
    assert caught.value.param == "control"


@given(cut=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=5))
def test_damaged_files_are_pictures_or_refused(cut: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(encode_image(gradient(), OutputFormat.PNG))
    for at, bits in flips:
        data[at % len(data)] ^= bits
    try:
        assert decode_image(bytes(data[: len(data) - cut]), "image", SIZE).width == 64
    except InvalidRequest as error:
        assert error.param == "image"  # noqa: PT017  # either end is right


def test_white_and_transparent_parts_of_a_mask_are_repainted() -> None:
    mask = PIL.Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    mask.putpixel((1, 0), (255, 255, 255, 255))
    mask.putpixel((2, 0), (0, 0, 0, 0))
    found = decode_mask(file_of(mask), "mask", (3, 1), file_of(PIL.Image.new("RGB", (3, 1))))
    assert list(found.data) == [0, 255, 255]
    assert found.channels == 1


def test_a_mask_of_another_size_is_refused() -> None:
    mask, image = file_of(PIL.Image.new("L", (3, 1))), file_of(PIL.Image.new("L", (3, 2)))
    with pytest.raises(InvalidRequest, match="3x1 pixels, the image 3x2") as caught:
        decode_mask(mask, "mask", SIZE, image)
    assert caught.value.param == "mask"


async def test_the_codec_works_beside_the_loop() -> None:
    codec = ImageCodec()
    data: list[bytes] = []

    async def encode() -> None:
        data.append(await codec.encode(gradient(), parameters="how"))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(encode)
    assert len(set(data)) == 1
    assert await codec.decode_image(data[0], "image", SIZE) == gradient()
    mask = await codec.decode_mask(data[0], "mask", SIZE, data[0])
    assert (mask.width, mask.height) == SIZE
    with pytest.raises(InvalidRequest):
        await codec.decode_image(b"nothing", "image", SIZE)
    assert isinstance(await codec.decode_image(data[0], "image", (8, 8)), RgbImage)
