"""A GGUF file of a known model's shape with random weights, for machines that cannot download the model.

What a token costs depends on shapes and number formats, not on the weights, so ratios between two servers carry over.
The text it writes means nothing.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray


@attrs.frozen
class Experts:
    """Feed-forward networks of which each token uses a few; ``feed_forward``: the width of one."""

    count: int
    used: int
    feed_forward: int


@attrs.frozen
class Shape:
    """Sizes of a Qwen2 model, with experts of a Qwen3 one, with a window of a Gemma 3; widths in values."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    tied: bool  # the output matrix is the embedding's
    experts: Experts | None = None
    head_width: int | None = None
    window: int | None = None  # tokens that five of six layers see

    @property
    def head(self) -> int:
        """Values of a token's key of one head."""
        return self.head_width or self.width // self.heads

    @property
    def q_width(self) -> int:
        """Values of a token's queries in one layer."""
        return self.head * self.heads

    @property
    def kv_width(self) -> int:
        """Values of a token's keys, or of its values, in one layer."""
        return self.head * self.kv_heads


SHAPES: Final = {
    "qwen2.5-0.5b": Shape(24, 896, 4864, 14, 2, tied=True),
    "qwen2.5-1.5b": Shape(28, 1536, 8960, 12, 2, tied=True),
    "qwen2.5-7b": Shape(28, 3584, 18944, 28, 4, tied=False),
    "qwen2.5-14b": Shape(48, 5120, 13824, 40, 8, tied=False),
    "gemma3-1b": Shape(26, 1152, 6912, 4, 1, tied=True, head_width=256, window=512),
    # 24 KB a token in the layers that see all, as gpt-oss 20B has them, and small matrices.
    "gpt-oss-kv": Shape(18, 256, 512, 8, 8, tied=True, head_width=256, window=128),
    "qwen3-30b-a3b": Shape(48, 2048, 6144, 32, 4, tied=False, experts=Experts(128, 8, 768), head_width=128),
}


@attrs.frozen
class Format:
    """Blocks of weights: ``head`` says their scale, then come the weights, drawn at random.

    ``deviation``: of what is drawn, times what ``head`` makes of a scale of 1.
    """

    kind: gguf.GGMLQuantizationType
    file_type: gguf.LlamaFileType
    deviation: float
    head: Callable[[float], bytes]

    def suits(self, columns: int) -> bool:
        """Whether these are whole blocks."""
        return columns % gguf.GGML_QUANT_SIZES[self.kind][0] == 0

    def row_bytes(self, columns: int) -> int:
        """Of so many weights, a multiple of a block's."""
        in_block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return columns // in_block * size


def _half(scale: float) -> bytes:
    return np.float16(scale).tobytes()


def _super_block(scale: float) -> bytes:
    """Q4_K: 32 times the scale for each 32 weights, and a minimum of 240 times the scale: the mean is zero."""
    sub_scale, minimum = 32, 60
    packed = [(sub_scale >> 4 << 6) | sub_scale] * 4 + [(minimum >> 4 << 6 & 0xC0) | minimum] * 4
    packed += [(minimum & 15) << 4 | sub_scale & 15] * 4
    return _half(scale) + _half(4 * scale) + bytes(packed)


def _signed_strips(scale: float) -> bytes:
    """IQ4_XS: for each 32 weights the scale, or its negative in turn: the mean is zero, that of the values is not."""
    plus, minus = 33, 31  # 32 more than 1 and -1
    low, high = minus << 4 & 0xF0 | plus & 15, (plus >> 4 | minus >> 4 << 2) * 0x1111
    return _half(scale) + high.to_bytes(2, "little") + bytes([low] * 4)


def _power(scale: float) -> bytes:
    return bytes([round(math.log2(scale)) + 128])


FORMATS: Final = {
    "q4_0": Format(Kind.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0, (15 * 17 / 12) ** 0.5, _half),
    "q8_0": Format(Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0, (255 * 257 / 12) ** 0.5, _half),
    "q4_k": Format(Kind.Q4_K, gguf.LlamaFileType.MOSTLY_Q4_K_S, 32 * (15 * 17 / 12) ** 0.5, _super_block),
    "iq4_xs": Format(Kind.IQ4_XS, gguf.LlamaFileType.MOSTLY_IQ4_XS, 4548**0.5, _signed_strips),
    "mxfp4": Format(Kind.MXFP4, gguf.LlamaFileType.MOSTLY_MXFP4_MOE, 34.25**0.5, _power),
}


def matrices(shape: Shape, n_vocab: int) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Name, shape with the columns last, and whether it stays in 8 bits, as files keep embeddings and output."""
    width, experts = shape.width, shape.experts
    yield "token_embd", (n_vocab, width), True
    if not shape.tied:
        yield "output", (n_vocab, width), True
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield f"{block}attn_q", (shape.q_width, width), False
        yield f"{block}attn_k", (shape.kv_width, width), False
        yield f"{block}attn_v", (shape.kv_width, width), False
        yield f"{block}attn_output", (width, shape.q_width), False
        many, suffix = ((experts.count,), "_exps") if experts else ((), "")
        inner = experts.feed_forward if experts else shape.feed_forward
        yield f"{block}ffn_gate{suffix}", (*many, inner, width), False
        yield f"{block}ffn_up{suffix}", (*many, inner, width), False
        yield f"{block}ffn_down{suffix}", (*many, width, inner), False


def vectors(shape: Shape, random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Norms, which are one, biases, which are zero, and what chooses experts, which is drawn."""
    yield "output_norm.weight", np.ones(shape.width, np.float32)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield f"{block}attn_norm.weight", np.ones(shape.width, np.float32)
        yield f"{block}ffn_norm.weight", np.ones(shape.width, np.float32)
        if shape.window:
            yield f"{block}post_attention_norm.weight", np.ones(shape.width, np.float32)
            yield f"{block}post_ffw_norm.weight", np.ones(shape.width, np.float32)
        if shape.window or shape.experts:
            yield f"{block}attn_q_norm.weight", np.ones(shape.head, np.float32)
            yield f"{block}attn_k_norm.weight", np.ones(shape.head, np.float32)
        if shape.window:
            continue
        if shape.experts:
            chooser = random.standard_normal((shape.experts.count, shape.width), np.float32)
            yield f"{block}ffn_gate_inp.weight", chooser / np.float32(shape.width**0.5)
            continue
        for name, size in (("attn_q", shape.q_width), ("attn_k", shape.kv_width), ("attn_v", shape.kv_width)):
            yield f"{block}{name}.bias", np.zeros(size, np.float32)


def draw(random: np.random.Generator, rows: int, columns: int, form: Format) -> NDArray[np.uint8]:
    """The bytes of a matrix whose weights have the variance 1 / columns; columns are whole blocks."""
    size = gguf.GGML_QUANT_SIZES[form.kind][1]
    n_bytes = rows * form.row_bytes(columns)
    data = np.frombuffer(random.bytes(n_bytes), np.uint8).reshape(-1, size).copy()
    head = form.head(1 / (form.deviation * columns**0.5))
    data[:, : len(head)] = np.frombuffer(head, np.uint8)
    return data.reshape(rows, form.row_bytes(columns))


def write(path: Path, shape: Shape, form: Format, vocabulary: Path, *, seed: int = 0) -> None:
    """Write the model; tokens and chat template are those of the GGUF file ``vocabulary``."""
    fields = gguf.GGUFReader(vocabulary).fields
    writer = gguf.GGUFWriter(path, "gemma3" if shape.window else "qwen3moe" if shape.experts else "qwen2")
    writer.add_name("random weights")
    writer.add_block_count(shape.layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    if shape.head_width:
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.experts:
        writer.add_expert_count(shape.experts.count)
        writer.add_expert_used_count(shape.experts.used)
        writer.add_expert_feed_forward_length(shape.experts.feed_forward)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(form.file_type)
    for name, field in fields.items():
        if name.startswith("tokenizer."):
            writer.add_key_value(name, field.contents(), field.types[0], field.types[1] if field.types[1:] else None)
    n_vocab = len(fields["tokenizer.ggml.tokens"].data)

    random = np.random.Generator(np.random.SFC64(seed))
    plain = list(vectors(shape, random))
    coarse = [
        (name, size, FORMATS["q8_0"] if fine or not form.suits(size[-1]) else form)
        for name, size, fine in matrices(shape, n_vocab)
    ]
    for name, values in plain:
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for name, size, kept in coarse:
        stored = (*size[:-1], kept.row_bytes(size[-1]))
        writer.add_tensor_info(f"{name}.weight", stored, np.dtype(np.uint8), math.prod(stored), kept.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, values in plain:
        writer.write_tensor_data(values)
    for _, size, kept in coarse:
        writer.write_tensor_data(draw(random, math.prod(size[:-1]), size[-1], kept))
    writer.close()


def main(argv: Sequence[str]) -> int:
    """Write one model. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench random-model", description=__doc__)
    parser.add_argument("out", type=Path, help="GGUF file to write")
    parser.add_argument("--vocabulary", type=Path, required=True, help="GGUF file whose tokens and template are taken")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-7b")
    parser.add_argument("--layers", type=int, help="so many in place of all, for machines that cannot hold them")
    parser.add_argument("--format", choices=FORMATS, default="q4_0")
    args: Any = parser.parse_args(argv)
    shape = SHAPES[args.shape]
    if args.layers is not None:
        shape = attrs.evolve(shape, layers=args.layers)
    write(args.out, shape, FORMATS[args.format], args.vocabulary)
    return 0
