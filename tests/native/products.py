"""One matrix product by ggml-cpu, as a graph of one node, and what it should be."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quant_shape_to_byte_shape
from numpy.typing import NDArray

from engine.native import library
from engine.native.sd import library as sd_library

_HANDLE = ctypes.c_void_p
_N = ctypes.c_int64
_I32 = 26  # ggml's number for whole numbers
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_free": (None, [_HANDLE]),
    "ggml_new_tensor_2d": (_HANDLE, [_HANDLE, ctypes.c_int, _N, _N]),
    "ggml_new_tensor_3d": (_HANDLE, [_HANDLE, ctypes.c_int, _N, _N, _N]),
    "ggml_get_data": (_HANDLE, [_HANDLE]),
    "ggml_permute": (_HANDLE, [_HANDLE, _HANDLE, *[ctypes.c_int] * 4]),
    "ggml_mul_mat": (_HANDLE, [_HANDLE, _HANDLE, _HANDLE]),
    "ggml_mul_mat_id": (_HANDLE, [_HANDLE, _HANDLE, _HANDLE, _HANDLE]),
    "ggml_new_graph": (_HANDLE, [_HANDLE]),
    "ggml_build_forward_expand": (None, [_HANDLE, _HANDLE]),
    "ggml_graph_compute_with_ctx": (ctypes.c_int, [_HANDLE, _HANDLE, ctypes.c_int]),
}


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def llama() -> ctypes.CDLL:
    """llama.cpp with its ggml."""
    lib: ctypes.CDLL = library.start()._lib
    return lib


def images() -> ctypes.CDLL:
    """stable-diffusion.cpp with its own."""
    return sd_library.native(sd_library.load())


@contextmanager
def context(lib: Any, size: int) -> Iterator[Any]:
    """Where a library makes tensors, of so many bytes together."""
    for name, (restype, argtypes) in _FUNCTIONS.items():
        getattr(lib, name).restype, getattr(lib, name).argtypes = restype, argtypes
    lib.ggml_init.restype, lib.ggml_init.argtypes = _HANDLE, [_InitParams]
    made = lib.ggml_init(_InitParams(size, None, False))
    assert made
    try:
        yield made
    finally:
        lib.ggml_free(made)


def multiply(
    weights: NDArray[np.uint8],
    kind: GGMLQuantizationType,
    tokens: NDArray[np.floating[Any]],
    n_threads: int,
    *,
    lib: ctypes.CDLL | None = None,
    permuted: bool = False,
    times: int = 1,
) -> NDArray[np.float32]:
    """Rows of encoded weights, (m, bytes) or (planes, m, bytes), times tokens (n, k) or (planes, n, k): (..., n, m).

    Tokens are float32 or float16, and may have several times as many planes. ``permuted``: both lie in memory row by
    row of all planes, as the heads of an attention do. Of ``times`` products in turn the last is returned.
    """
    lib = lib or llama()
    weights, tokens = np.atleast_3d(weights.T).T, np.atleast_3d(tokens.T).T
    planes, n, k = tokens.shape
    m = weights.shape[1]
    token_kind = 1 if tokens.dtype == np.float16 else 0
    with context(lib, (64 << 20) + 4 * (weights.nbytes + tokens.nbytes + 4 * n * m * planes * times)) as ggml:
        operands = []
        for values, values_kind in ((weights, int(kind)), (tokens, token_kind)):
            rows = np.ascontiguousarray(values.swapaxes(0, 1) if permuted else values)
            tensor = lib.ggml_new_tensor_3d(ggml, values_kind, k, *rows.shape[1::-1])
            ctypes.memmove(lib.ggml_get_data(tensor), rows.ctypes.data, values.nbytes)
            operands.append(lib.ggml_permute(ggml, tensor, 0, 2, 1, 3) if permuted else tensor)
        graph = lib.ggml_new_graph(ggml)
        for _ in range(times):
            out = lib.ggml_mul_mat(ggml, *operands)
            lib.ggml_build_forward_expand(graph, out)
        assert lib.ggml_graph_compute_with_ctx(ggml, graph, n_threads) == 0
        result = np.empty((planes, n, m), np.float32)
        ctypes.memmove(result.ctypes.data, lib.ggml_get_data(out), result.nbytes)
    return result


def multiply_experts(
    weights: NDArray[np.uint8],
    kind: GGMLQuantizationType,
    tokens: NDArray[np.float32],
    chosen: NDArray[np.int32],
    n_threads: int,
) -> NDArray[np.float32]:
    """Rows of encoded weights of experts (e, m, bytes) times tokens (n, 1, k), or (n, used, k), a row for each expert.

    ``chosen`` (n, used): the numbers of each token's experts. Returns (n, used, m).
    """
    lib = llama()
    (_, m, _), (n, _, k) = weights.shape, tokens.shape
    with context(lib, (64 << 20) + 4 * (weights.nbytes + tokens.nbytes + 4 * chosen.size * m)) as ggml:
        operands = []
        for values, values_kind, width in ((weights, int(kind), k), (tokens, 0, k), (chosen, _I32, chosen.shape[1])):
            shape = values.shape[1::-1] if values.ndim > 2 else (n, 1)
            tensor = lib.ggml_new_tensor_3d(ggml, values_kind, width, *shape)
            ctypes.memmove(lib.ggml_get_data(tensor), np.ascontiguousarray(values).ctypes.data, values.nbytes)
            operands.append(tensor)
        graph = lib.ggml_new_graph(ggml)
        out = lib.ggml_mul_mat_id(ggml, *operands)
        lib.ggml_build_forward_expand(graph, out)
        assert lib.ggml_graph_compute_with_ctx(ggml, graph, n_threads) == 0
        result = np.empty((*chosen.shape, m), np.float32)
        ctypes.memmove(result.ctypes.data, lib.ggml_get_data(out), result.nbytes)
    return result


def unfold(
    image: NDArray[np.floating[Any]],
    kernel: tuple[int, int],
    step: tuple[int, int],
    pad: tuple[int, int],
    apart: tuple[int, int],
    n_threads: int,
) -> NDArray[np.float16]:
    """An image (n, channels, height, width), float32 or float16, as rows of a convolution's matrix.

    Pairs are (vertical, horizontal). Returns (n, rows, columns, channels, kernel height, kernel width).
    """
    lib = images()
    n, channels, height, width = image.shape
    lib.ggml_new_tensor_4d.restype, lib.ggml_new_tensor_4d.argtypes = _HANDLE, [_HANDLE, ctypes.c_int, *[_N] * 4]
    lib.ggml_im2col.restype = _HANDLE
    lib.ggml_im2col.argtypes = [_HANDLE, _HANDLE, _HANDLE, *[ctypes.c_int] * 6, ctypes.c_bool, ctypes.c_int]
    rows, columns = (
        (size + 2 * p - a * (k - 1) - 1) // s + 1
        for size, k, s, p, a in zip((height, width), kernel, step, pad, apart, strict=True)
    )
    result = np.empty((n, rows, columns, channels, *kernel), np.float16)
    with context(lib, (16 << 20) + 2 * (image.nbytes + result.nbytes)) as ggml:
        weights = lib.ggml_new_tensor_4d(ggml, 1, *kernel[::-1], channels, 1)
        pixels = lib.ggml_new_tensor_4d(ggml, 1 if image.dtype == np.float16 else 0, width, height, channels, n)
        ctypes.memmove(lib.ggml_get_data(pixels), np.ascontiguousarray(image).ctypes.data, image.nbytes)
        pairs = (size for pair in (step, pad, apart) for size in pair[::-1])
        out = lib.ggml_im2col(ggml, weights, pixels, *pairs, True, 1)
        graph = lib.ggml_new_graph(ggml)
        lib.ggml_build_forward_expand(graph, out)
        assert lib.ggml_graph_compute_with_ctx(ggml, graph, n_threads) == 0
        ctypes.memmove(result.ctypes.data, lib.ggml_get_data(out), result.nbytes)
    return result


def random_weights(rng: np.random.Generator, kind: GGMLQuantizationType, m: int, k: int) -> NDArray[np.uint8]:
    """Random bytes: every bit of every quant and of every scale inside; the outer scales are halves around 1."""
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16):
        numbers = rng.normal(size=(m, k)).astype(np.float32)
        if kind is GGMLQuantizationType.F32:
            return numbers.view(np.uint8)
        if kind is GGMLQuantizationType.F16:
            return numbers.astype(np.float16).view(np.uint8)
        return (numbers.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    rows = rng.integers(0, 256, quant_shape_to_byte_shape((m, k), kind), dtype=np.uint8)
    return with_scales(rng, kind, rows)


def with_scales(rng: np.random.Generator, kind: GGMLQuantizationType, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same rows with sane half-precision scales of their blocks."""
    if kind is GGMLQuantizationType.MXFP4:  # a power of two, as one byte
        rows.reshape(-1, 17)[:, 0] = rng.integers(126, 131, rows.size // 17)
        return rows
    size = {
        "IQ4_NL": 18,
        "Q4_0": 18,
        "Q4_1": 20,
        "Q5_0": 22,
        "Q8_0": 34,
        "Q4_K": 144,
        "Q5_K": 176,
        "Q6_K": 210,
        "Q2_K": 84,
        "Q3_K": 110,
        "IQ4_XS": 136,
    }[kind.name]
    at = {"Q6_K": [208], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q4_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108]}.get(
        kind.name, [0]
    )
    blocks = rows.reshape(-1, size)
    for offset in at:
        scales = rng.uniform(0.5, 1.5, len(blocks)).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows.shape)


def exact_tokens(rng: np.random.Generator, n: int, k: int) -> NDArray[np.float32]:
    """Whole numbers to 127 that are there in every 32: quantising them to 8 bits loses nothing."""
    tokens = rng.integers(-127, 128, (n, k)).astype(np.float32)
    tokens[:, ::32] = rng.choice(np.float32([-127, 127]), (n, -(-k // 32)))
    return tokens


def expected(
    weights: NDArray[np.uint8], kind: GGMLQuantizationType, tokens: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The product, and of each element the sum of its terms' magnitudes, which bounds its rounding."""
    dense = dequantize(weights, kind).astype(np.float64)
    wide = tokens.astype(np.float64)
    return wide @ dense.T, np.abs(wide) @ np.abs(dense).T
