"""Single metadata texts of a GGUF file, without loading what it holds."""

import ctypes
import functools
from typing import Any, Final

from engine.native import library

_STRING: Final = 8  # gguf_type


class _Params(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@functools.cache
def _functions() -> dict[str, Any]:
    handle, number = ctypes.c_void_p, ctypes.c_int64
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "gguf_init_from_file": (handle, [ctypes.c_char_p, _Params]),
        "gguf_find_key": (number, [handle, ctypes.c_char_p]),
        "gguf_get_kv_type": (ctypes.c_int, [handle, number]),
        "gguf_get_val_str": (ctypes.c_char_p, [handle, number]),
        "gguf_free": (None, [handle]),
    }
    return {name: library.ggml_function(name, *signature) for name, signature in signatures.items()}


def read_texts(path: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Those of the metadata ``keys`` that the file has and whose values are texts. {} for what is no GGUF file."""
    call = _functions()
    handle = call["gguf_init_from_file"](path.encode(), _Params(no_alloc=True, ctx=None))
    if not handle:
        return {}
    try:
        found = {key: call["gguf_find_key"](handle, key.encode()) for key in keys}
        return {
            key: call["gguf_get_val_str"](handle, index).decode("utf-8", "replace")
            for key, index in found.items()
            if index >= 0 and call["gguf_get_kv_type"](handle, index) == _STRING
        }
    finally:
        call["gguf_free"](handle)
