"""Projectors of some hundred kilobytes with random weights, for the tiny language model."""

from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.tiny_llm import N_EMBD as N_EMBD_TEXT

SIZE: Final = 32  # pixels a side: every image is scaled to that
PATCH: Final = 8
N_TOKENS: Final = (SIZE // PATCH) ** 2
_N_EMBD: Final = 32
_N_FF: Final = 64
_N_HEAD: Final = 2
_N_MEL: Final = 16
_N_FRAMES: Final = 1500  # positions of 30 s of sound
_STACK: Final = 100
N_SOUND_TOKENS: Final = _N_FRAMES // _STACK  # for each 30 s


class _Weights:
    """Adds tensors with random values."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def add(self, name: str, *shape: int, fan_in: int | None = None, dtype: type = np.float32) -> None:
        scale = np.sqrt(shape[-1] if fan_in is None else fan_in)
        values: NDArray[np.floating] = (self._random.standard_normal(shape) / scale).astype(dtype)
        self._writer.add_tensor(f"{name}.weight", values)

    def fill(self, name: str, size: int, value: float) -> None:
        self._writer.add_tensor(name, np.full(size, value, np.float32))

    def linear(self, name: str, rows: int, columns: int, *, bias: bool = True) -> None:
        self.add(name, rows, columns)
        if bias:
            self.fill(f"{name}.bias", rows, 0)

    def norm(self, name: str) -> None:
        self.fill(f"{name}.weight", _N_EMBD, 1)
        self.fill(f"{name}.bias", _N_EMBD, 0)

    def block(self, prefix: str, *, key_bias: bool) -> None:
        """A layer of the encoder."""
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            self.linear(prefix + name, _N_EMBD, _N_EMBD, bias=key_bias or name != "attn_k")
        self.norm(prefix + "ln1")
        self.norm(prefix + "ln2")
        self.linear(prefix + "ffn_up", _N_FF, _N_EMBD)
        self.linear(prefix + "ffn_down", _N_EMBD, _N_FF)


def write_tiny_mmproj(path: Path, *, seed: int = 3, n_embd_text: int = N_EMBD_TEXT, kind: str = "janus_pro") -> Path:
    """A projector for images, ``N_TOKENS`` each; other than N_EMBD_TEXT it is one of another model.

    ``kind`` qwen2vl_merger: for M-RoPE, with a token for each 2 x 2 patches of an image of any size.
    """
    writer = _begin(path, kind)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    _add_sizes(writer, "vision", n_embd_text)
    writer.add_uint32("clip.vision.image_size", SIZE)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    weights = _Weights(writer, seed)
    patch = (_N_EMBD, 3, PATCH, PATCH)
    weights.add("v.patch_embd", *patch, fan_in=3 * PATCH * PATCH)
    weights.block("v.blk.0.", key_bias=True)
    weights.norm("v.post_ln")
    if kind == "janus_pro":
        weights.fill("v.patch_embd.bias", _N_EMBD, 0)
        weights.add("v.position_embd", N_TOKENS, _N_EMBD)
        weights.linear("mm.0", n_embd_text, _N_EMBD)
        weights.linear("mm.1", n_embd_text, n_embd_text)
    else:
        writer.add_tensor("v.patch_embd.weight.1", np.full(patch, 0.01, np.float32))
        weights.linear("mm.0", 4 * _N_EMBD, 4 * _N_EMBD)
        weights.linear("mm.2", n_embd_text, 4 * _N_EMBD)
    return _end(writer, path)


def write_tiny_audio_mmproj(path: Path, *, seed: int = 4) -> Path:
    """A projector for sound: a Whisper encoder with Ultravox's projector, ``N_SOUND_TOKENS`` for each 30 s."""
    writer = _begin(path, "ultravox")
    writer.add_bool("clip.has_audio_encoder", True)
    _add_sizes(writer, "audio", N_EMBD_TEXT)
    writer.add_uint32("clip.audio.num_mel_bins", _N_MEL)
    writer.add_uint32("clip.audio.projector.stack_factor", _STACK)
    weights = _Weights(writer, seed)
    weights.add("a.conv1d.1", _N_EMBD, _N_MEL, 3, fan_in=3 * _N_MEL, dtype=np.float16)
    weights.add("a.conv1d.2", _N_EMBD, _N_EMBD, 3, fan_in=3 * _N_EMBD, dtype=np.float16)
    writer.add_tensor("a.conv1d.1.bias", np.zeros((_N_EMBD, 1), np.float32))
    writer.add_tensor("a.conv1d.2.bias", np.zeros((_N_EMBD, 1), np.float32))
    weights.add("a.position_embd", _N_FRAMES, _N_EMBD)
    weights.block("a.blk.0.", key_bias=False)
    weights.norm("a.post_ln")
    stacked = _STACK * _N_EMBD
    weights.add("mm.a.mlp.1", 2 * _N_FF, stacked)
    weights.add("mm.a.mlp.2", N_EMBD_TEXT, _N_FF)
    weights.fill("mm.a.norm_pre.weight", stacked, 1)
    weights.fill("mm.a.norm_mid.weight", _N_FF, 1)
    return _end(writer, path)


def _begin(path: Path, projector: str) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("clip.projector_type", projector)
    return writer


def _add_sizes(writer: gguf.GGUFWriter, modality: str, n_embd_text: int) -> None:
    for name, value in (
        ("embedding_length", _N_EMBD),
        ("feed_forward_length", _N_FF),
        ("block_count", 1),
        ("projection_dim", n_embd_text),
        ("attention.head_count", _N_HEAD),
    ):
        writer.add_uint32(f"clip.{modality}.{name}", value)
    writer.add_float32(f"clip.{modality}.attention.layer_norm_epsilon", 1e-6)


def _end(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
