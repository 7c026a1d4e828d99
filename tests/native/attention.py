"""Attention as llama.cpp computes it on a processor, and what it should be."""

import ctypes
from typing import Any

import attrs
import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from tests.native.products import context, llama

_HANDLE = ctypes.c_void_p
_F32, _F16 = 0, 1


@attrs.frozen(eq=False)
class Attention:
    """q (streams, heads, tokens, k width), k and v (streams, KV heads, cells, width), mask (streams, tokens, cells)."""

    q: NDArray[np.float32]
    k: NDArray[np.float32]
    v: NDArray[np.float32]
    mask: NDArray[np.float16] | None
    sinks: NDArray[np.float32] | None = None
    softcap: float = 0.0
    kind: GGMLQuantizationType = GGMLQuantizationType.F16

    @property
    def scale(self) -> float:
        """Of the scores."""
        return float(self.q.shape[-1] ** -0.5)

    def compute(self, n_threads: int) -> NDArray[np.float32]:
        """The library's result: (streams, tokens, heads, v width)."""
        lib = llama()
        lib.ggml_flash_attn_ext.restype = _HANDLE
        lib.ggml_flash_attn_ext.argtypes = [_HANDLE, _HANDLE, _HANDLE, _HANDLE, _HANDLE, *[ctypes.c_float] * 3]
        lib.ggml_flash_attn_ext_add_sinks.restype = None
        lib.ggml_flash_attn_ext_add_sinks.argtypes = [_HANDLE, _HANDLE]
        lib.ggml_new_tensor_4d.restype = _HANDLE
        lib.ggml_new_tensor_4d.argtypes = [_HANDLE, ctypes.c_int, *[ctypes.c_int64] * 4]
        streams, heads, tokens, _ = self.q.shape
        width = self.v.shape[-1]
        with context(lib, (64 << 20) + 8 * (self.q.nbytes + self.k.nbytes + self.v.nbytes)) as ggml:

            def tensor(values: NDArray[Any], kind: int, columns: int | None = None) -> Any:
                shape = (1,) * (4 - values.ndim) + values.shape
                made = lib.ggml_new_tensor_4d(ggml, kind, columns or shape[3], shape[2], shape[1], shape[0])
                ctypes.memmove(lib.ggml_get_data(made), np.ascontiguousarray(values).ctypes.data, values.nbytes)
                return made

            def cells(values: NDArray[np.float32]) -> Any:
                """As a cache holds them: all heads of a cell side by side."""
                stored = quantize(np.ascontiguousarray(values.swapaxes(1, 2)), self.kind)
                return lib.ggml_permute(ggml, tensor(stored, int(self.kind), values.shape[-1]), 0, 2, 1, 3)

            mask = None if self.mask is None else tensor(self.mask[:, None], _F16)
            operands = (tensor(self.q, _F32), cells(self.k), cells(self.v), mask)
            out = lib.ggml_flash_attn_ext(ggml, *operands, self.scale, 0.0, self.softcap)
            if self.sinks is not None:
                lib.ggml_flash_attn_ext_add_sinks(out, tensor(self.sinks, _F32))
            graph = lib.ggml_new_graph(ggml)
            lib.ggml_build_forward_expand(graph, out)
            assert lib.ggml_graph_compute_with_ctx(ggml, graph, n_threads) == 0
            result = np.empty((streams, tokens, heads, width), np.float32)
            ctypes.memmove(result.ctypes.data, lib.ggml_get_data(out), result.nbytes)
        return result

    def expected(self) -> NDArray[np.float64]:
        """The same by the formula."""
        shared = self.q.shape[1] // self.k.shape[1]
        k, v = (self._stored(x).repeat(shared, 1) for x in (self.k, self.v))
        scores = self.q.astype(np.float64) @ k.swapaxes(2, 3) * self.scale
        if self.softcap:
            scores = self.softcap * np.tanh(scores / self.softcap)
        if self.mask is not None:
            scores += self.mask[:, None].astype(np.float64)
        sinks = np.full(self.q.shape[1], -np.inf) if self.sinks is None else self.sinks.astype(np.float64)
        sink = sinks[None, :, None, None]
        peak = np.maximum(scores.max(-1, keepdims=True), sink)
        peak[peak == -np.inf] = 0
        weights = np.exp(scores - peak)
        total = weights.sum(-1, keepdims=True) + np.exp(sink - peak)
        total[total == 0] = 1
        found: NDArray[np.float64] = (weights / total @ v).swapaxes(1, 2)
        return found

    def _stored(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return dequantize(quantize(values, self.kind), self.kind).astype(np.float64)
