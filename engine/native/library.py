"""Loads llama.cpp and binds what its Python package lacks: the only importer of ``llama_cpp``."""

import functools
import importlib
import importlib.metadata
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

from engine.native import ggml as ggml_functions
from engine.native.environment import prepare_environment
from engine.native.kernels.load import Kernels, attach
from engine.native.log import native_log
from engine.native.options import Numa
from engine.native.package import bypass

PACKAGE: Final = "llama_cpp"
DISTRIBUTION: Final = "llama-cpp-python"

_NUMA_STRATEGY: Final = {Numa.DISABLED: 0, Numa.DISTRIBUTE: 1, Numa.ISOLATE: 2, Numa.NUMACTL: 3}
_lock: Final = threading.RLock()


@functools.cache
def _load() -> Any:
    prepare_environment()
    bypass(PACKAGE, DISTRIBUTION)
    return importlib.import_module(f"{PACKAGE}.llama_cpp")


def load() -> Any:
    """The low-level binding module, loaded on the first call. Raises ImportError or RuntimeError without a library."""
    with _lock:
        return _load()


@functools.cache
def _start() -> Any:
    lib = load()
    native_log.install(lib)
    lib.llama_backend_init()
    functions = ggml()
    if functions.reg_count() == 0:  # a build with its backends in libraries of their own
        functions.load_all_from_path(str(library_path()).encode())
    _kernels()
    return lib


@functools.cache
def _start_mtmd() -> Any:
    lib = start()
    mtmd = importlib.import_module(f"{PACKAGE}.mtmd_cpp")
    native_log.add(lib, mtmd.mtmd_helper_log_set)  # sets mtmd's own callback too
    return mtmd


def start_mtmd() -> Any:
    """The binding module of the multimodal library, its log redirected. Idempotent.

    Raises ImportError, RuntimeError or FileNotFoundError for an installation without it.
    """
    with _lock:
        return _start_mtmd()


def start() -> Any:
    """The binding module with the backends initialised and the log redirected. Idempotent."""
    with _lock:
        return _start()


@functools.cache
def _kernels() -> Kernels:
    return attach(load()._lib)  # noqa: SLF001  # the binding offers no public name for it


def kernels() -> Kernels:
    """Whose matrix products are used: ours once the library has started, if they can be."""
    start()
    return _kernels()


def init_numa(strategy: Numa) -> None:
    """Choose the NUMA strategy; at most once, before the first model is loaded."""
    start().llama_numa_init(_NUMA_STRATEGY[strategy])


@functools.cache
def ggml() -> ggml_functions.Ggml:
    """The ggml libraries that llama.cpp itself uses."""
    return ggml_functions.bind(ggml_function)


def ggml_function(name: str, restype: Any, argtypes: list[Any]) -> Any:
    """A function of the ggml libraries. Raises ImportError when they lack it."""
    # Asked of libllama, whose symbols include those of the libraries that it has loaded itself. Wheels hold the ggml
    # libraries three times under different names: loaded by another name they would have a registry of their own.
    for library in chain((load()._lib,), _ggml_libraries()):  # noqa: SLF001  # the binding offers no public name for it
        if hasattr(library, name):
            function = getattr(library, name)
            function.restype, function.argtypes = restype, argtypes
            return function
    raise ImportError(f"{name} is missing from the ggml libraries in {library_path()}")


def _ggml_libraries() -> Iterator[Any]:
    """For systems where a library's symbols are only its own (Windows), which have each library once."""
    extensions = importlib.import_module(f"{PACKAGE}._ctypes_extensions")
    for part in ("ggml", "ggml-base"):
        yield extensions.load_shared_library(part, library_path())


def library_path() -> Path:
    """The directory of the shared libraries in use."""
    return Path(load()._base_path)  # noqa: SLF001  # the binding offers no public name for it


def package_version() -> str:
    """The version of the installed binding package."""
    return importlib.metadata.version(DISTRIBUTION)
