"""Sound files to samples. Everything here is for worker threads.

WAV is read here: a header may lie about its length, and the native reader would believe it. MP3 is decoded natively,
after its frames have been counted.
"""

import struct
from collections.abc import Buffer, Iterator
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.text.media import MediaReader

MOST_SECONDS: Final = 30 * 60
_MOST_CHANNELS: Final = 16
_RATES: Final = (1_000, 384_000)
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MAGICS: Final = (b"RIFF", b"RF64", b"BW64")
_UNKNOWN: Final = 0xFFFFFFFF  # a length that the header has no room for, or that its writer did not know
_TYPES: Final = {(_PCM, 16): "<i2", (_PCM, 32): "<i4", (_FLOAT, 32): "<f4", (_FLOAT, 64): "<f8"}

# MPEG audio layer III: kbit/s by the header's index, and samples/s.
_KBITS_1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_1: Final = (44_100, 48_000, 32_000)


def is_wav(data: bytes) -> bool:
    """Whether it begins as a WAV file does."""
    return data[:4] in _MAGICS and data[8:12] == b"WAVE"


def decode_sound(data: bytes, reader: MediaReader) -> Buffer:
    """float32 samples, mono, at the reader's rate. Raises InvalidRequest."""
    if is_wav(data):
        return _resampled(*_wav(data), reader.sample_rate)
    stream = _without_id3(data)
    seconds = sum(_mp3_frames(stream))
    if seconds == 0:
        raise InvalidRequest("this is neither a WAV file nor an MP3 stream")
    _check_length(seconds)
    return reader.mp3(stream)


def _check_length(seconds: float) -> None:
    if seconds > MOST_SECONDS:
        raise InvalidRequest(f"a sound of {seconds:.0f} s is too long, {MOST_SECONDS} s are allowed")


# --- WAV ---


@attrs.frozen
class _Format:
    tag: int
    channels: int
    rate: int
    bits: int

    @classmethod
    def read(cls, chunk: bytes) -> "_Format":
        if len(chunk) < 16:
            raise InvalidRequest("the WAV file's format is cut off")
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == _EXTENSIBLE and len(chunk) >= 26:
            (tag,) = struct.unpack_from("<H", chunk, 24)
        if not 1 <= channels <= _MOST_CHANNELS or not _RATES[0] <= rate <= _RATES[1]:
            raise InvalidRequest(f"a WAV file of {channels} channels at {rate} Hz is not supported")
        return cls(tag, channels, rate, bits)


def _wav(data: bytes) -> tuple[NDArray[np.float32], int]:
    """(mono samples, samples per second)."""
    kind: _Format | None = None
    for name, content in _riff_chunks(data):
        if name == b"fmt ":
            kind = _Format.read(content)
        elif name == b"data":
            if kind is None:
                break
            return _mono(kind, content), kind.rate
    raise InvalidRequest("the WAV file has no format or no samples")


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents. Samples whose length nobody knew when it was written go on to the end of the file."""
    end = 8 + _length(data[4:8])
    known = 0  # bytes of samples, as an RF64 file has them
    at = 12
    while at + 8 <= len(data):
        name, start, size = data[at : at + 4], at + 8, _length(data[at + 4 : at + 8])
        if name == b"ds64":
            known = _length(data[start + 8 : start + 16])
        elif name == b"data" and size == _UNKNOWN:
            size = known or size
        elif name == b"data" and size == 0 and not start < end <= len(data):
            size = len(data)
        yield name, data[start : start + size]
        at = start + size + size % 2


def _length(field: bytes) -> int:
    return int.from_bytes(field, "little")


def _mono(kind: _Format, content: bytes) -> NDArray[np.float32]:
    width = kind.bits // 8 * kind.channels
    if width == 0 or kind.bits % 8:
        raise InvalidRequest(f"a WAV file with samples of {kind.bits} bits is not supported")
    count = len(content) // width
    _check_length(count / kind.rate)
    whole = content[: count * width]
    values: NDArray[np.float32]
    if (kind.tag, kind.bits) == (_PCM, 8):
        values = np.frombuffer(whole, np.uint8).astype(np.float32) / np.float32(128) - np.float32(1)
    elif (kind.tag, kind.bits) == (_PCM, 24):
        octets = np.frombuffer(whole, np.uint8).reshape(-1, 3).astype(np.int32)
        values = ((octets[:, 0] << 8 | octets[:, 1] << 16 | octets[:, 2] << 24) / 2**31).astype(np.float32)
    elif (kind.tag, kind.bits) in _TYPES:
        raw = np.frombuffer(whole, _TYPES[kind.tag, kind.bits])
        values = raw.astype(np.float32) / np.float32(2.0 ** (kind.bits - 1) if kind.tag == _PCM else 1.0)
    else:
        raise InvalidRequest(f"a WAV file of the coding {kind.tag} with {kind.bits} bits is not supported")
    mixed: NDArray[np.float32] = values.reshape(count, kind.channels).mean(axis=1, dtype=np.float32)
    return mixed


def _resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """At another rate: averaged where there are many samples for one, else interpolated between neighbours."""
    if rate == wanted or not len(samples):
        return np.ascontiguousarray(samples, np.float32)
    if rate > wanted:  # what is above half of the wanted rate must not come back as something else
        width = round(rate / wanted)
        samples = np.convolve(samples, np.full(width, 1 / width, np.float32), "same").astype(np.float32)
    count = max(1, round(len(samples) * wanted / rate))
    at = np.arange(count) * (rate / wanted)
    result: NDArray[np.float32] = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    return result


# --- MP3 ---


def _without_id3(data: bytes) -> bytes:
    """The stream behind the ID3 tag before it, which may be large."""
    if data[:3] != b"ID3" or len(data) < 10:
        return data
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return data[10 + size :]


def _mp3_frames(stream: bytes) -> Iterator[float]:
    """Seconds of each frame from the beginning on, until something else comes."""
    at = 0
    while (frame := _mp3_frame(stream, at)) is not None:
        length, seconds = frame
        yield seconds
        at += length


def _mp3_frame(stream: bytes, at: int) -> tuple[int, float] | None:
    """(bytes, seconds) of the frame at this place; None if there is none."""
    head = stream[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # the sync bits, and layer III
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in {0, 15} or rate == 3:
        return None
    first = version == 3  # MPEG 1; MPEG 2 and 2.5 have half the samples and a half or a quarter of the rates
    samples = 1152 if first else 576
    hertz = _RATES_1[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits = (_KBITS_1 if first else _KBITS_2)[kbits] * 1000
    return samples // 8 * bits // hertz + (head[2] >> 1 & 1), samples / hertz
