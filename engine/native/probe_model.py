"""Writes a tiny quantised model for the preflight: no tokenizer, weights without meaning, every common format.

Each layer's matrices have one of the quantised types for which the library has special processor code. The widths are
multiples of 256, the block size of the K formats, and of the tiles that repacked weights need.
"""

import struct
from pathlib import Path
from typing import Final

import attrs
import numpy as np

N_VOCAB: Final = 256
N_CTX: Final = 256
_N_EMBD: Final = 256
_N_FF: Final = 256
_N_HEAD: Final = 4
_ALIGNMENT: Final = 32

_F32: Final = 0
_U32_VALUE, _F32_VALUE, _STRING_VALUE = 4, 6, 8  # gguf's value types


@attrs.frozen
class Quantisation:
    """A ggml block format: which values a block holds and where its half-precision scales are."""

    ggml_type: int
    values: int  # per block
    size: int  # bytes per block
    scales: tuple[int, ...]  # byte offsets


QUANTISATIONS: Final = (
    Quantisation(2, 32, 18, (0,)),  # Q4_0
    Quantisation(3, 32, 20, (0, 2)),  # Q4_1
    Quantisation(8, 32, 34, (0,)),  # Q8_0
    Quantisation(12, 256, 144, (0, 2)),  # Q4_K
    Quantisation(13, 256, 176, (0, 2)),  # Q5_K
    Quantisation(14, 256, 210, (208,)),  # Q6_K
)
_SMALL: Final = 1 / 4096  # keeps the random weights, and so the activations, within range


@attrs.define
class _Writer:
    """The parts of a GGUF file, in the order in which they are added."""

    _metadata: list[bytes] = attrs.field(factory=list)
    _headers: list[bytes] = attrs.field(factory=list)
    _data: bytearray = attrs.field(factory=bytearray)

    def value(self, key: str, value: int | float | str) -> None:
        match value:
            case int():
                encoded = struct.pack("<II", _U32_VALUE, value)
            case float():
                encoded = struct.pack("<If", _F32_VALUE, value)
            case str():
                encoded = struct.pack("<I", _STRING_VALUE) + _string(value)
        self._metadata.append(_string(key) + encoded)

    def tensor(self, name: str, shape: tuple[int, ...], ggml_type: int, data: bytes) -> None:
        """``shape`` in ggml's order: the length of a row comes first."""
        self._data += b"\0" * (-len(self._data) % _ALIGNMENT)
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        self._headers.append(_string(name) + dimensions + struct.pack("<IQ", ggml_type, len(self._data)))
        self._data += data

    def file(self) -> bytes:
        start = b"GGUF" + struct.pack("<IQQ", 3, len(self._headers), len(self._metadata))
        head = start + b"".join(self._metadata) + b"".join(self._headers)
        return head + b"\0" * (-len(head) % _ALIGNMENT) + bytes(self._data)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _matrix(random: np.random.Generator, quantisation: Quantisation, rows: int, columns: int) -> bytes:
    blocks = random.integers(0, 256, (rows * columns // quantisation.values, quantisation.size), np.uint8)
    scale = np.frombuffer(np.float16(_SMALL).tobytes(), np.uint8)
    for offset in quantisation.scales:
        blocks[:, offset : offset + 2] = scale
    return blocks.tobytes()


def write_probe(path: Path) -> None:
    """Write the model (2.1 MB) to ``path``; always the same bytes."""
    random = np.random.default_rng(0)
    writer = _Writer()
    writer.value("general.architecture", "llama")
    writer.value("llama.block_count", len(QUANTISATIONS))
    writer.value("llama.context_length", N_CTX)
    writer.value("llama.embedding_length", _N_EMBD)
    writer.value("llama.feed_forward_length", _N_FF)
    writer.value("llama.attention.head_count", _N_HEAD)
    writer.value("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.value("llama.vocab_size", N_VOCAB)
    writer.value("tokenizer.ggml.model", "none")
    ones = np.ones(_N_EMBD, np.float32).tobytes()
    for name, quantisation in (("token_embd", QUANTISATIONS[2]), ("output", QUANTISATIONS[-1])):
        matrix = _matrix(random, quantisation, N_VOCAB, _N_EMBD)
        writer.tensor(f"{name}.weight", (_N_EMBD, N_VOCAB), quantisation.ggml_type, matrix)
    writer.tensor("output_norm.weight", (_N_EMBD,), _F32, ones)
    for layer, quantisation in enumerate(QUANTISATIONS):
        for name in ("attn_norm", "ffn_norm"):
            writer.tensor(f"blk.{layer}.{name}.weight", (_N_EMBD,), _F32, ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            matrix = _matrix(random, quantisation, _N_FF, _N_EMBD)
            writer.tensor(f"blk.{layer}.{name}.weight", (_N_EMBD, _N_FF), quantisation.ggml_type, matrix)
    path.write_bytes(writer.file())
