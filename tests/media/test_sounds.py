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


@pytest.mark.parametrize(
    ("riff", "length"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (36, 0), (0xFFFFFFFF, 0), (2**31 - 1, 2**31 - 37)],
)
def test_what_was_written_as_a_stream_has_no_length_and_is_read_to_its_end(riff: int, length: int) -> None:
    data = bytearray(wav(wave()))
    struct.pack_into("<I", data, 4, riff)
    struct.pack_into("<I", data, data.index(b"data") + 4, length)
    assert samples(bytes(data)) == pytest.approx(wave(), abs=1e-3)


def test_no_samples_before_other_chunks_are_none() -> None:
    head = wav(wave())[:40]
    body = b"WAVE" + head[12:] + bytes(4) + b"LIST\x04\0\0\0abcd"
    assert len(samples(b"RIFF" + struct.pack("<I", len(body)) + body)) == 0


@pytest.mark.parametrize("before", [b"", b"LIST\x03\0\0\0abc\0"])
@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
def test_long_files_say_their_length_elsewhere(name: bytes, before: bytes) -> None:
    plain = wav(wave())
    size = len(plain) - 44
    length = struct.pack("<4sIQQQI", b"ds64", 28, 0, size, 0, 0)
    head = name + b"\xff\xff\xff\xffWAVE" + length + plain[12:36] + before
    data = head + b"data\xff\xff\xff\xff" + plain[44:] + b"LIST\x04\0\0\0abcd"
    assert samples(data) == pytest.approx(wave(), abs=1e-3)
    assert len(samples(data[: 12 + 8 + 8] + bytes(8) + data[12 + 8 + 16 :])) == len(wave()) + 6, "read to its end"


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
