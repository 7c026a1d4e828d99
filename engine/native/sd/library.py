"""Loads stable-diffusion.cpp and binds what its Python package lacks: the only importer of ``stable_diffusion_cpp``."""

import ctypes
import functools
import importlib
import importlib.metadata
import logging
import threading
from typing import Any, Final

from engine.errors import ModelLoadError
from engine.native import ggml as ggml_functions
from engine.native.environment import prepare_environment
from engine.native.kernels.load import attach_images
from engine.native.package import bypass
from engine.native.sd.layout import layout_fault

PACKAGE: Final = "stable_diffusion_cpp"
DISTRIBUTION: Final = "stable-diffusion-cpp-python"

log = logging.getLogger("engine.image")

_lock: Final = threading.RLock()
_HANDLE: Final = ctypes.c_void_p
# Functions that the library exports and the package does not bind.
_UNBOUND: Final[dict[str, tuple[Any, list[Any]]]] = {
    "sd_ctx_params_init": (None, [_HANDLE]),
    "sd_img_gen_params_init": (None, [_HANDLE]),
}
# Those that only some builds have.
_OPTIONAL: Final[dict[str, tuple[Any, list[Any]]]] = {
    "ggml_backend_cpu_init": (_HANDLE, []),
    "ggml_backend_free": (None, [_HANDLE]),
    "ggml_backend_cpu_set_abort_callback": (None, [_HANDLE, _HANDLE, _HANDLE]),
    "sd_cancel_generation": (None, [_HANDLE, ctypes.c_int]),
}


def _bind(lib: Any, functions: dict[str, tuple[Any, list[Any]]]) -> None:
    for name, (restype, argtypes) in functions.items():
        if hasattr(lib, name):
            function = getattr(lib, name)
            function.restype, function.argtypes = restype, argtypes


@functools.cache
def _load() -> Any:
    prepare_environment()
    bypass(PACKAGE, DISTRIBUTION)
    try:
        module = importlib.import_module(f"{PACKAGE}.{PACKAGE}")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ModelLoadError(f"cannot load the image library: {error}") from error
    lib = native(module)
    _bind(lib, _UNBOUND)
    _bind(lib, _OPTIONAL)
    fault = layout_fault(module, lib)
    if fault is not None:
        raise ModelLoadError(f"cannot use the image library: {fault}")
    kernels = attach_images(lib)
    whose = f"ours for {kernels.variant}" if kernels.library else f"stable-diffusion.cpp's own ({kernels.reason})"
    log.info("matrix products: %s", whose)
    return module


def load() -> Any:
    """The low-level binding module, loaded on the first call.

    Raises ModelLoadError without a library, or with one whose structures are not those of the package.
    """
    with _lock:
        return _load()


def native(module: Any) -> ctypes.CDLL:
    """The shared library behind the binding module."""
    lib: ctypes.CDLL = module._lib  # noqa: SLF001  # the binding offers no public name for it
    return lib


def has(lib: ctypes.CDLL, name: str) -> bool:
    """Whether the library exports a function; see the lists above for what is bound."""
    return hasattr(lib, name)


@functools.cache
def ggml() -> ggml_functions.Ggml:
    """The ggml that is built into the library: another one than llama.cpp's, with a registry of its own.

    Raises ModelLoadError for a library that hides it.
    """
    try:
        return ggml_functions.bind(ggml_function)
    except ImportError as error:
        raise ModelLoadError(f"cannot use the image library: {error}") from error


def ggml_function(name: str, restype: Any, argtypes: list[Any]) -> Any:
    """A function of that ggml. Raises ImportError when the library does not export it."""
    lib = native(load())
    if not hasattr(lib, name):
        raise ImportError(f"the image library does not export {name}")
    function = getattr(lib, name)
    function.restype, function.argtypes = restype, argtypes
    return function


@functools.cache
def libc_free() -> Any:
    """``free``: what the library hands out is the caller's to free."""
    free = ctypes.CDLL(None).free
    free.restype, free.argtypes = None, [_HANDLE]
    return free


def version() -> str:
    """The library's own version and commit, and the package's."""
    module = load()
    own = (module.sd_version() or b"").decode("utf-8", "replace")
    commit = (module.sd_commit() or b"").decode("utf-8", "replace")
    return f"{own} {commit} ({DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)})"
