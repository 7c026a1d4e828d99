"""A GGUF file of a known model's shape with random weights, for machines that cannot download the model.

What a token costs depends on shapes and number formats, not on the weights, so ratios between two servers carry over.
The text it writes means nothing.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import gguf
import numpy as np
from numpy.typing import NDArray


@attrs.frozen
class Shape:
    """Sizes of a Qwen2 model; widths in values."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    tied: bool  # the output matrix is the embedding's

    @property
    def kv_width(self) -> int:
        """Values of a token's keys, or of its values, in one layer."""
        return self.width // self.heads * self.kv_heads


SHAPES: Final = {
    "qwen2.5-0.5b": Shape(24, 896, 4864, 14, 2, tied=True),
    "qwen2.5-1.5b": Shape(28, 1536, 8960, 12, 2, tied=True),
    "qwen2.5-7b": Shape(28, 3584, 18944, 28, 4, tied=False),
    "qwen2.5-14b": Shape(48, 5120, 13824, 40, 8, tied=False),
}


@attrs.frozen
class Format:
    """Blocks of 32 weights: a half-precision scale, then the weights as whole numbers."""

    kind: gguf.GGMLQuantizationType
    file_type: gguf.LlamaFileType
    block_bytes: int
    deviation: float  # of uniformly drawn whole numbers


FORMATS: Final = {
    "q4_0": Format(gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0, 18, (15 * 17 / 12) ** 0.5),
    "q8_0": Format(gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0, 34, (255 * 257 / 12) ** 0.5),
}


def matrices(shape: Shape, n_vocab: int) -> Iterator[tuple[str, int, int, bool]]:
    """Name, rows, columns and whether it stays in 8 bits, as quantised files keep embeddings and output."""
    yield "token_embd", n_vocab, shape.width, True
    if not shape.tied:
        yield "output", n_vocab, shape.width, True
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield f"{block}attn_q", shape.width, shape.width, False
        yield f"{block}attn_k", shape.kv_width, shape.width, False
        yield f"{block}attn_v", shape.kv_width, shape.width, False
        yield f"{block}attn_output", shape.width, shape.width, False
        yield f"{block}ffn_gate", shape.feed_forward, shape.width, False
        yield f"{block}ffn_up", shape.feed_forward, shape.width, False
        yield f"{block}ffn_down", shape.width, shape.feed_forward, False


def vectors(shape: Shape) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Norms, which are one, and biases, which are zero."""
    yield "output_norm.weight", np.ones(shape.width, np.float32)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield f"{block}attn_norm.weight", np.ones(shape.width, np.float32)
        yield f"{block}ffn_norm.weight", np.ones(shape.width, np.float32)
        for name, size in (("attn_q", shape.width), ("attn_k", shape.kv_width), ("attn_v", shape.kv_width)):
            yield f"{block}{name}.bias", np.zeros(size, np.float32)


def draw(random: np.random.Generator, rows: int, columns: int, form: Format) -> NDArray[np.uint8]:
    """The bytes of a matrix whose weights have the variance 1 / columns; columns are a multiple of 32."""
    blocks = rows * columns // 32
    data = np.frombuffer(random.bytes(blocks * form.block_bytes), np.uint8).reshape(blocks, form.block_bytes).copy()
    scale = np.float16(1 / (form.deviation * columns**0.5))
    data[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return data.reshape(rows, columns // 32 * form.block_bytes)


def write(path: Path, shape: Shape, form: Format, vocabulary: Path, *, seed: int = 0) -> None:
    """Write the model; tokens and chat template are those of the GGUF file ``vocabulary``."""
    fields = gguf.GGUFReader(vocabulary).fields
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("random weights")
    writer.add_block_count(shape.layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(form.file_type)
    for name, field in fields.items():
        if name.startswith("tokenizer."):
            writer.add_key_value(name, field.contents(), field.types[0], field.types[1] if field.types[1:] else None)
    n_vocab = len(fields["tokenizer.ggml.tokens"].data)

    plain = list(vectors(shape))
    coarse = [
        (name, rows, columns, FORMATS["q8_0"] if fine else form)
        for name, rows, columns, fine in matrices(shape, n_vocab)
    ]
    for name, values in plain:
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for name, rows, columns, kept in coarse:
        stored = (rows, columns // 32 * kept.block_bytes)
        writer.add_tensor_info(f"{name}.weight", stored, np.dtype(np.uint8), stored[0] * stored[1], kept.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.Generator(np.random.SFC64(seed))
    for _, values in plain:
        writer.write_tensor_data(values)
    for _, rows, columns, kept in coarse:
        writer.write_tensor_data(draw(random, rows, columns, kept))
    writer.close()


def main(argv: Sequence[str]) -> int:
    """Write one model. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench random-model", description=__doc__)
    parser.add_argument("out", type=Path, help="GGUF file to write")
    parser.add_argument("--vocabulary", type=Path, required=True, help="GGUF file whose tokens and template are taken")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-7b")
    parser.add_argument("--format", choices=FORMATS, default="q4_0")
    args: Any = parser.parse_args(argv)
    write(args.out, SHAPES[args.shape], FORMATS[args.format], args.vocabulary)
    return 0
