"""The functions of ggml that we use. llama.cpp and the image library each bring a ggml of their own."""

import ctypes
from collections.abc import Callable
from typing import Any, Final

import attrs

type FindFunction = Callable[[str, Any, list[Any]], Any]
"""A function of one ggml by name, result type and argument types. Raises ImportError when it lacks it."""


@attrs.frozen
class Ggml:
    """One library's, by their names without the prefix ``ggml_backend_``. Handles are addresses."""

    dev_count: Any
    dev_get: Any
    dev_by_name: Any
    dev_name: Any
    dev_description: Any
    dev_memory: Any
    dev_type: Any
    dev_buffer_type: Any
    dev_backend_reg: Any
    device_register: Any
    buft_name: Any
    buft_alloc_buffer: Any
    reg_count: Any
    reg_get: Any
    reg_name: Any
    reg_dev_count: Any
    reg_dev_get: Any
    reg_get_proc_address: Any
    register: Any
    unload: Any
    load_all_from_path: Any


_SIZE_P: Final = ctypes.POINTER(ctypes.c_size_t)
_HANDLE: Final = ctypes.c_void_p
_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "dev_count": (ctypes.c_size_t, []),
    "dev_get": (_HANDLE, [ctypes.c_size_t]),
    "dev_by_name": (_HANDLE, [ctypes.c_char_p]),
    "dev_name": (ctypes.c_char_p, [_HANDLE]),
    "dev_description": (ctypes.c_char_p, [_HANDLE]),
    "dev_memory": (None, [_HANDLE, _SIZE_P, _SIZE_P]),
    "dev_type": (ctypes.c_int, [_HANDLE]),
    "dev_buffer_type": (_HANDLE, [_HANDLE]),
    "dev_backend_reg": (_HANDLE, [_HANDLE]),
    "device_register": (None, [_HANDLE]),
    "buft_name": (ctypes.c_char_p, [_HANDLE]),
    "buft_alloc_buffer": (_HANDLE, [_HANDLE, ctypes.c_size_t]),
    "reg_count": (ctypes.c_size_t, []),
    "reg_get": (_HANDLE, [ctypes.c_size_t]),
    "reg_name": (ctypes.c_char_p, [_HANDLE]),
    "reg_dev_count": (ctypes.c_size_t, [_HANDLE]),
    "reg_dev_get": (_HANDLE, [_HANDLE, ctypes.c_size_t]),
    "reg_get_proc_address": (_HANDLE, [_HANDLE, ctypes.c_char_p]),
    "register": (None, [_HANDLE]),
    "unload": (None, [_HANDLE]),
    "load_all_from_path": (None, [ctypes.c_char_p]),
}


def bind(find: FindFunction) -> Ggml:
    """The functions of the library that ``find`` looks in. Raises ImportError when one is missing."""
    return Ggml(
        **{name: find(f"ggml_backend_{name}", restype, argtypes) for name, (restype, argtypes) in _FUNCTIONS.items()}
    )
