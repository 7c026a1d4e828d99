"""Small image and sound files."""

import base64
import io
import struct

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Random pixels."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    return encoded(picture(seed, size))


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def wave(seconds: float = 0.5, rate: int = 16_000, pitch: float = 440.0) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 16_000, *, tag: int = 1, bits: int = 16, channels: int = 1) -> bytes:
    """A WAV file of mono samples, which all channels get."""
    spread = np.repeat(samples, channels).astype(np.float64)
    match tag, bits:
        case 1, 8:
            body = ((spread + 1) * 127.5).astype(np.uint8).tobytes()
        case 1, 24:
            whole = (spread * (2**23 - 1)).astype("<i4")
            body = whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        case 1, _:
            body = (spread * (2 ** (bits - 1) - 1)).astype(f"<i{bits // 8}").tobytes()
        case _:
            body = spread.astype(f"<f{bits // 8}").tobytes()
    width = bits // 8 * channels
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
