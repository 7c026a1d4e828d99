"""An image model of nine megabytes with random weights, its LoRA and upscalers: quick to load, deterministic.

The architecture is the smallest that the library knows: "Ovis Image", a Flux transformer of one double block, with a
text encoder that is an embedding table alone, and a TAESD as VAE.
"""

import json
import struct
from pathlib import Path
from typing import Final

import attrs
import gguf
import numpy as np
from numpy.typing import NDArray

VOCABULARY: Final = 151936  # of the tokenizer that is built into the library
HIDDEN: Final = 128  # the head size must be 128, so this is one head
CONTEXT: Final = 8  # width of the text encoder
LATENT: Final = 16  # channels
TAESD_WIDTH: Final = 64
VERSION: Final = "Ovis Image"

type Tensors = dict[str, NDArray[np.float64]]


@attrs.frozen
class TinySd:
    """The files of the model."""

    model: Path
    taesd: Path
    lora: Path
    upscaler_x2: Path
    upscaler_x4: Path


def write_safetensors(path: Path, tensors: Tensors) -> Path:
    """Matrices and more as F16, the rest as F32."""
    header: dict[str, object] = {}
    blobs: list[bytes] = []
    end = 0
    for name, values in tensors.items():
        dtype, kind = ("F16", np.float16) if values.ndim >= 2 else ("F32", np.float32)
        blob = np.ascontiguousarray(values, dtype=kind).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [end, end + len(blob)]}
        blobs.append(blob)
        end += len(blob)
    return write_raw(path, json.dumps(header).encode(), b"".join(blobs))


def write_raw(path: Path, header: bytes, data: bytes) -> Path:
    """A safetensors file of any header."""
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def write_image_gguf(path: Path, architecture: str = "flux") -> Path:
    """A GGUF file that looks like an image model, with a single tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tensor("double_blocks.0.img_attn.proj.weight", np.ones((32, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Weights:
    """Collects random tensors by name."""

    def __init__(self, random: np.random.Generator) -> None:
        self.tensors: Tensors = {}
        self._random = random

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        self.tensors[f"{name}.weight"] = self._random.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        self.tensors[f"{name}.bias"] = self._random.standard_normal(outputs) * 0.02

    def convolution(self, name: str, inputs: int, outputs: int, *, bias: float = 0.05, gain: float = 1.0) -> None:
        """3x3; ``bias`` is its spread, 0 for none."""
        scale = gain / np.sqrt(9 * inputs)
        self.tensors[f"{name}.weight"] = self._random.standard_normal((outputs, inputs, 3, 3)) * scale
        if bias:
            self.tensors[f"{name}.bias"] = self._random.standard_normal(outputs) * bias

    def ones(self, name: str, size: int) -> None:
        self.tensors[name] = np.ones(size)


def _transformer(weights: _Weights) -> None:
    prefix = "model.diffusion_model."
    weights.linear(f"{prefix}img_in", 4 * LATENT, HIDDEN)
    weights.linear(f"{prefix}txt_in", CONTEXT, HIDDEN)
    weights.ones(f"{prefix}txt_norm.scale", CONTEXT)
    weights.linear(f"{prefix}time_in.in_layer", 256, HIDDEN)
    weights.linear(f"{prefix}time_in.out_layer", HIDDEN, HIDDEN)
    for stream in ("img", "txt"):
        block = f"{prefix}double_blocks.0.{stream}"
        weights.linear(f"{block}_mod.lin", HIDDEN, 6 * HIDDEN)
        weights.linear(f"{block}_attn.qkv", HIDDEN, 3 * HIDDEN)
        weights.ones(f"{block}_attn.norm.query_norm.scale", HIDDEN)
        weights.ones(f"{block}_attn.norm.key_norm.scale", HIDDEN)
        weights.linear(f"{block}_attn.proj", HIDDEN, HIDDEN)
        weights.linear(f"{block}_mlp.gate_proj", HIDDEN, 4 * HIDDEN)  # what makes it "Ovis Image"
        weights.linear(f"{block}_mlp.up_proj", HIDDEN, 4 * HIDDEN)
        weights.linear(f"{block}_mlp.down_proj", 4 * HIDDEN, HIDDEN)
    weights.linear(f"{prefix}final_layer.linear", HIDDEN, 4 * LATENT)
    weights.linear(f"{prefix}final_layer.adaLN_modulation.1", HIDDEN, 2 * HIDDEN)


def _text_encoder(weights: _Weights, random: np.random.Generator) -> None:
    prefix = "text_encoders.llm.model."
    weights.tensors[f"{prefix}embed_tokens.weight"] = random.standard_normal((VOCABULARY, CONTEXT))
    weights.ones(f"{prefix}norm.weight", CONTEXT)


def _taesd(weights: _Weights, latent: int) -> None:
    def block(name: str) -> None:
        for layer in (0, 2, 4):
            weights.convolution(f"{name}.conv.{layer}", TAESD_WIDTH, TAESD_WIDTH, gain=0.7)

    decoder, encoder = "decoder.layers.", "encoder.layers."
    weights.convolution(f"{decoder}0", latent, TAESD_WIDTH)
    for layer in (2, 3, 4, 7, 8, 9, 12, 13, 14, 17):
        block(f"{decoder}{layer}")
    for layer in (6, 11, 16):
        weights.convolution(f"{decoder}{layer}", TAESD_WIDTH, TAESD_WIDTH, bias=0)
    weights.convolution(f"{decoder}18", TAESD_WIDTH, 3)
    weights.tensors[f"{decoder}18.bias"] = np.full(3, 0.5)
    weights.convolution(f"{encoder}0", 3, TAESD_WIDTH)
    for layer in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13):
        block(f"{encoder}{layer}")
    for layer in (2, 6, 10):
        weights.convolution(f"{encoder}{layer}", TAESD_WIDTH, TAESD_WIDTH, bias=0)
    weights.convolution(f"{encoder}14", TAESD_WIDTH, latent)


def taesd_tensors(random: np.random.Generator, latent: int) -> Tensors:
    """A TAESD for latents of so many channels."""
    weights = _Weights(random)
    _taesd(weights, latent)
    return weights.tensors


def lora_tensors(random: np.random.Generator, *, width: int = HIDDEN, rank: int = 4) -> Tensors:
    """A strong LoRA for the transformer; it fits only with ``width`` HIDDEN."""
    tensors: Tensors = {}
    for name, inputs, outputs in (
        ("double_blocks.0.img_attn.qkv", width, 3 * width),
        ("double_blocks.0.img_mlp.up_proj", width, 4 * width),
        ("double_blocks.0.img_mlp.down_proj", 4 * width, width),
        ("final_layer.linear", width, 64),
    ):
        base = f"diffusion_model.{name}"
        tensors[f"{base}.lora_down.weight"] = random.standard_normal((rank, inputs)) / np.sqrt(inputs)
        tensors[f"{base}.lora_up.weight"] = 4 * random.standard_normal((outputs, rank)) / np.sqrt(rank)
        tensors[f"{base}.alpha"] = np.asarray(float(rank))
    return tensors


def _esrgan(weights: _Weights, factor: int) -> None:
    weights.convolution("conv_first", 3, TAESD_WIDTH)
    for name in ("conv_body", "conv_up1", "conv_hr"):
        weights.convolution(name, TAESD_WIDTH, TAESD_WIDTH)
    if factor == 4:
        weights.convolution("conv_up2", TAESD_WIDTH, TAESD_WIDTH)
    weights.convolution("conv_last", TAESD_WIDTH, 3)


def write_tiny_sd(directory: Path, *, seed: int = 0) -> TinySd:
    """Write all files to ``directory``; the same seed gives the same bytes."""
    random = np.random.default_rng(seed)
    model = _Weights(random)
    _transformer(model)
    _text_encoder(model, random)
    taesd = taesd_tensors(random, LATENT)
    upscalers = []
    for factor in (2, 4):
        esrgan = _Weights(random)
        _esrgan(esrgan, factor)
        upscalers.append(write_safetensors(directory / f"tiny-esrgan-x{factor}.safetensors", esrgan.tensors))
    return TinySd(
        model=write_safetensors(directory / "tiny-sd.safetensors", model.tensors),
        taesd=write_safetensors(directory / "tiny-taesd.safetensors", taesd),
        lora=write_safetensors(directory / "tiny-lora.safetensors", lora_tensors(random)),
        upscaler_x2=upscalers[0],
        upscaler_x4=upscalers[1],
    )
