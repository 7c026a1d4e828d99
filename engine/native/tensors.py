"""The names of the tensors in a model file."""

import ctypes
import functools
from typing import Any

from engine.native import library


class _InitParams(ctypes.Structure):
    """gguf_init_params: the tensors' data stay on disk."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@functools.cache
def _bindings() -> dict[str, Any]:
    handle, number = ctypes.c_void_p, ctypes.c_int64
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "gguf_init_from_file": (handle, [ctypes.c_char_p, _InitParams]),
        "gguf_get_n_tensors": (number, [handle]),
        "gguf_get_tensor_name": (ctypes.c_char_p, [handle, number]),
        "gguf_free": (None, [handle]),
    }
    return {name: library.ggml_function(name, *signature) for name, signature in signatures.items()}


def tensor_names(path: str) -> frozenset[str]:
    """Names of all tensors of a GGUF file that loads; empty where the library cannot read it."""
    call = _bindings()
    found = call["gguf_init_from_file"](path.encode(), _InitParams(no_alloc=True, ctx=None))
    if not found:
        return frozenset()
    try:
        count = call["gguf_get_n_tensors"](found)
        return frozenset(
            call["gguf_get_tensor_name"](found, index).decode("utf-8", "replace") for index in range(count)
        )
    finally:
        call["gguf_free"](found)
