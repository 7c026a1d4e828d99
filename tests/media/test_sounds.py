"""Sound files to samples."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from llamabox.media.sounds import MOST_SECONDS, decode_sound
from tests.models.pictures import wav, wave

RATE = 16_000


class Reader:
    """The part of MediaReader that sound needs; ``streams``: what it was to decode."""

    vision, audio, sample_rate = False, True, RATE

    def __init__(self) -> None:
        self.streams: list[bytes] = []

    def mp3(self, data: bytes) -> bytes:
        self.streams.append(data)
        return wave().tobytes()


def samples(data: bytes) -> np.ndarray:
    return np.frombuffer(decode_sound(data, Reader()), np.float32)


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_each_coding_of_wav(tag: int, bits: int, channels: int) -> None:
    found = samples(wav(wave(), tag=tag, bits=bits, channels=channels))
    assert found == pytest.approx(wave(), abs=2 / 2 ** min(bits - 1, 20))


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_are_resampled(rate: int) -> None:
    found = samples(wav(wave(0.5, rate, 200.0), rate))
    expected = wave(0.5, RATE, 200.0)
    assert abs(len(found) - len(expected)) <= 2
    inner = slice(100, min(len(found), len(expected)) - 100)
    assert np.abs(found[inner] - expected[inner]).max() < 0.1


def test_an_extensible_header() -> None:
    plain = wav(wave())
    head = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4, 1) + bytes(14)
    body = plain[plain.index(b"data") :]
    data = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(head)) + head + b"LIST\x03\0\0\0abc\0" + body
    assert samples(data) == pytest.approx(wave(), abs=1e-3)


def test_a_length_that_lies_is_not_believed() -> None:
    data = bytearray(wav(wave()))
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert len(samples(bytes(data))) == len(wave())


def test_long_sounds_are_refused() -> None:
    silence = np.zeros(1_000 * (MOST_SECONDS + 1), np.float32)
    with pytest.raises(InvalidRequest, match="too long"):
        samples(wav(silence, 1_000, bits=8))


def mp3_frame(kbits_index: int = 9) -> bytes:
    """MPEG 1, layer III, 44.1 kHz, 128 kbit/s: 417 bytes, 1152 samples."""
    return bytes([0xFF, 0xFB, kbits_index << 4, 0]).ljust(417, b"\0")


def test_mp3_frames_are_counted_before_they_are_decoded() -> None:
    reader = Reader()
    decode_sound(b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + 3 * mp3_frame(), reader)
    assert reader.streams == [3 * mp3_frame()]
    with pytest.raises(InvalidRequest, match="too long"):
        decode_sound(70_000 * mp3_frame(), reader)
    assert len(reader.streams) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"RIFF0000WAVE",
        wav(wave())[:30],
        wav(wave())[:40],
        b"ID3",
        b"\xff\xfb\xf0\0",
        b"fLaC" + bytes(50),
        mp3_frame()[:3],
    ],
)
def test_what_is_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_sound(data, Reader())


@pytest.mark.parametrize(
    ("at", "value"), [(22, 0), (22, 99), (24, 0), (24, 2**31), (34, 0), (34, 7), (34, 64), (20, 6)], ids=str
)
def test_wav_headers_that_make_no_sense(at: int, value: int) -> None:
    data = bytearray(wav(wave()))
    size = 4 if at == 24 else 2
    data[at : at + size] = value.to_bytes(size, "little")
    with pytest.raises(InvalidRequest):
        samples(bytes(data))


@given(st.integers(0, 60), st.binary(min_size=1, max_size=6))
def test_damaged_headers_give_samples_or_a_refusal(at: int, noise: bytes) -> None:
    data = bytearray(wav(wave(0.01)))
    data[at : at + len(noise)] = noise
    try:
        samples(bytes(data))
    except InvalidRequest:
        return
