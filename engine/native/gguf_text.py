"""Single metadata texts of a GGUF file, without loading what it holds."""

import ctypes
import functools
from typing import Any, Final

from engine.native import library

_STRING: Final = 8  # gguf_type


class _Params(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@functools.cache
def _functions() -> Any:
    lib = library.load_base()
    lib.gguf_init_from_file.restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = (ctypes.c_char_p, _Params)
    lib.gguf_find_key.restype = ctypes.c_int64
    lib.gguf_find_key.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    lib.gguf_get_kv_type.restype = ctypes.c_int
    lib.gguf_get_kv_type.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    lib.gguf_get_val_str.restype = ctypes.c_char_p
    lib.gguf_get_val_str.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    lib.gguf_free.restype = None
    lib.gguf_free.argtypes = (ctypes.c_void_p,)
    return lib


def read_texts(path: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Those of the metadata ``keys`` that the file has and whose values are texts. {} for what is no GGUF file."""
    lib = _functions()
    handle = lib.gguf_init_from_file(path.encode(), _Params(no_alloc=True, ctx=None))
    if not handle:
        return {}
    try:
        found = {key: lib.gguf_find_key(handle, key.encode()) for key in keys}
        return {
            key: lib.gguf_get_val_str(handle, index).decode("utf-8", "replace")
            for key, index in found.items()
            if index >= 0 and lib.gguf_get_kv_type(handle, index) == _STRING
        }
    finally:
        lib.gguf_free(handle)
