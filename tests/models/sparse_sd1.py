"""An SD 1.x model and a ControlNet for it, of the only width that the library knows: 2.7 GB that take 5 MB on the disk.

Nearly all weights are zero and are holes in the files. What is not makes one path through each of the two: the latents
go by the first convolution and the last skip connection to the output, the control image by the hint block and the
first "zero convolution" to the same skip connection. Loaded, the two take their full size in memory.
"""

import itertools
import json
import struct
from pathlib import Path
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from tests.models.tiny_sd import Tensors, taesd_tensors, write_safetensors

VERSION: Final = "SD 1.x"
MEMORY: Final = 4 * 1024**3  # bytes that a process needs to use them
LATENT: Final = 4  # channels
WIDTH: Final = 320
TIME: Final = 4 * WIDTH  # width of the time embedding
CLIP: Final = 768  # width of the text encoder
LEVELS: Final = (1, 2, 4, 4)  # widths of the UNet's levels, in WIDTH
ATTENDING: Final = 3  # levels with attention; each is halved for the next one
HINT: Final = (3, 16, 16, 32, 32, 96, 96, 256, WIDTH)  # channels of the hint block's convolutions


@attrs.frozen
class SparseSd1:
    """The files."""

    model: Path
    taesd: Path
    control_net: Path


class _Weights:
    """Collects tensors by name; those without values are zero."""

    def __init__(self, random: np.random.Generator) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._values: Tensors = {}
        self._random = random

    def zeros(self, name: str, *shape: int) -> None:
        self._shapes[name] = shape

    def values(self, name: str, values: NDArray[np.float64]) -> None:
        self._shapes[name], self._values[name] = values.shape, values

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        self.zeros(f"{name}.weight", outputs, inputs)
        if bias:
            self.zeros(f"{name}.bias", outputs)

    def norm(self, name: str, size: int) -> None:
        self.values(f"{name}.weight", np.ones(size))
        self.zeros(f"{name}.bias", size)

    def convolution(self, name: str, inputs: int, outputs: int, size: int = 3, *, alive: bool = False) -> None:
        shape = (outputs, inputs, size, size)
        self.zeros(f"{name}.weight", *shape)
        self.zeros(f"{name}.bias", outputs)
        if alive:
            self.values(f"{name}.weight", self._random.standard_normal(shape) / np.sqrt(size * size * inputs))
            self.values(f"{name}.bias", self._random.standard_normal(outputs) * 0.05)

    def residual(self, name: str, inputs: int, outputs: int, *, alive: bool = False) -> None:
        self.norm(f"{name}.in_layers.0", inputs)
        self.convolution(f"{name}.in_layers.2", inputs, outputs)
        self.linear(f"{name}.emb_layers.1", TIME, outputs)
        self.norm(f"{name}.out_layers.0", outputs)
        self.convolution(f"{name}.out_layers.3", outputs, outputs)
        if inputs != outputs:
            self.convolution(f"{name}.skip_connection", inputs, outputs, 1, alive=alive)

    def attention(self, name: str, width: int) -> None:
        """A spatial transformer."""
        self.norm(f"{name}.norm", width)
        self.convolution(f"{name}.proj_in", width, width, 1)
        block = f"{name}.transformer_blocks.0"
        for number in (1, 2, 3):
            self.norm(f"{block}.norm{number}", width)
        for part, context in (("attn1", width), ("attn2", CLIP)):
            for letter, inputs in (("q", width), ("k", context), ("v", context)):
                self.linear(f"{block}.{part}.to_{letter}", inputs, width, bias=False)
            self.linear(f"{block}.{part}.to_out.0", width, width)
        self.linear(f"{block}.ff.net.0.proj", width, 8 * width)
        self.linear(f"{block}.ff.net.2", 4 * width, width)
        self.convolution(f"{name}.proj_out", width, width, 1)

    def write(self, path: Path) -> Path:
        """As safetensors: matrices and more as F16, the rest as F32, zeros as holes."""
        header: dict[str, object] = {}
        end = 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape)) * _type(shape).itemsize
            dtype = f"F{8 * _type(shape).itemsize}"
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
            end += size
        raw = json.dumps(header).encode()
        raw += b" " * (-len(raw) % 8)
        with path.open("wb") as file:
            begin = file.write(struct.pack("<Q", len(raw)) + raw)
            for name, values in self._values.items():
                file.seek(begin + header[name]["data_offsets"][0])  # type: ignore[index]
                file.write(np.ascontiguousarray(values, dtype=_type(values.shape)).tobytes())
            file.truncate(begin + end)
        return path


def _type(shape: tuple[int, ...]) -> np.dtype[np.floating]:
    return np.dtype(np.float16 if len(shape) >= 2 else np.float32)


def _encoder(weights: _Weights, prefix: str) -> list[int]:
    """The half that the UNet and the ControlNet have in common; the widths of what it hands over."""
    weights.linear(f"{prefix}time_embed.0", WIDTH, TIME)
    weights.linear(f"{prefix}time_embed.2", TIME, TIME)
    weights.convolution(f"{prefix}input_blocks.0.0", LATENT, WIDTH, alive=True)
    widths = [WIDTH]
    for level, factor in enumerate(LEVELS):
        for _ in range(2):
            block = f"{prefix}input_blocks.{len(widths)}"
            weights.residual(f"{block}.0", widths[-1], WIDTH * factor)
            if level < ATTENDING:
                weights.attention(f"{block}.1", WIDTH * factor)
            widths.append(WIDTH * factor)
        if level < ATTENDING:
            weights.convolution(f"{prefix}input_blocks.{len(widths)}.0.op", widths[-1], widths[-1])
            widths.append(widths[-1])
    weights.residual(f"{prefix}middle_block.0", widths[-1], widths[-1])
    weights.attention(f"{prefix}middle_block.1", widths[-1])
    weights.residual(f"{prefix}middle_block.2", widths[-1], widths[-1])
    return widths


def _unet(weights: _Weights) -> None:
    prefix = "model.diffusion_model."
    widths = _encoder(weights, prefix)
    width, number = widths[-1], 0
    for level, factor in reversed(list(enumerate(LEVELS))):
        for place in range(3):
            block = f"{prefix}output_blocks.{number}"
            weights.residual(f"{block}.0", width + widths.pop(), WIDTH * factor, alive=not widths)
            width = WIDTH * factor
            if level < ATTENDING:
                weights.attention(f"{block}.1", width)
            if level and place == 2:
                weights.convolution(f"{block}.{2 if level < ATTENDING else 1}.conv", width, width)
            number += 1
    weights.norm(f"{prefix}out.0", WIDTH)
    weights.convolution(f"{prefix}out.2", WIDTH, LATENT, alive=True)


def _text_encoder(weights: _Weights) -> None:
    prefix = "cond_stage_model.transformer.text_model."
    weights.zeros(f"{prefix}embeddings.token_embedding.weight", 49408, CLIP)
    weights.zeros(f"{prefix}embeddings.position_embedding.weight", 77, CLIP)
    for layer in range(12):
        block = f"{prefix}encoder.layers.{layer}"
        for letter in ("q", "k", "v", "out"):
            weights.linear(f"{block}.self_attn.{letter}_proj", CLIP, CLIP)
        for number in (1, 2):
            weights.norm(f"{block}.layer_norm{number}", CLIP)
        weights.linear(f"{block}.mlp.fc1", CLIP, 4 * CLIP)
        weights.linear(f"{block}.mlp.fc2", 4 * CLIP, CLIP)
    weights.norm(f"{prefix}final_layer_norm", CLIP)


def _control_net(weights: _Weights) -> None:
    prefix = "control_model."
    for number, width in enumerate(_encoder(weights, prefix)):
        weights.convolution(f"{prefix}zero_convs.{number}.0", width, width, 1, alive=number == 0)
    for number, (inputs, outputs) in enumerate(itertools.pairwise(HINT)):
        weights.convolution(f"{prefix}input_hint_block.{2 * number}", inputs, outputs, alive=True)
    weights.convolution(f"{prefix}middle_block_out.0", WIDTH * LEVELS[-1], WIDTH * LEVELS[-1], 1)


def write_sparse_sd1(directory: Path, *, seed: int = 0) -> SparseSd1:
    """Write the files to ``directory``; the same seed gives the same bytes."""
    random = np.random.default_rng(seed)
    model, control_net = _Weights(random), _Weights(random)
    _unet(model)
    _text_encoder(model)
    _control_net(control_net)
    return SparseSd1(
        model=model.write(directory / "sparse-sd1.safetensors"),
        taesd=write_safetensors(directory / "taesd4.safetensors", taesd_tensors(random, LATENT)),
        control_net=control_net.write(directory / "sparse-control.safetensors"),
    )
