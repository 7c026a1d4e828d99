"""Leads operations of llama.cpp and stable-diffusion.cpp to ours where these are compiled and suit it."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from engine.native.gguf_file import Tensor
from engine.native.kernels import build

VARIABLE: Final = "LLAMA_BOX_KERNELS"
"""``off``: the libraries' own operations. ``on``: ours on every processor that can; ``avx2``, ``avx512``: ours of that
kind. Empty: ours where they are measured to win."""
AVX512: Final = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"})
"""What the variant of this name needs of a processor, as Linux writes it."""
_COMMON: Final = (
    "ggml_barrier",
    "ggml_threadpool_chunk_set",
    "ggml_threadpool_chunk_add",
    "ggml_get_type_traits_cpu",
)
TYPES: Final = frozenset({2, 6, 8, 10, 11, 12, 13, 14, 20, 23, 39})
"""Of quantised weights whose products are ours, as GGUF files number them: those of ``formats.h``."""

_FLOATS: Final = frozenset({0, 1, 30})  # float32, float16, bfloat16


@attrs.frozen
class Kernels:
    """The operations in use: ``library`` is None where they are the host library's own, for ``reason``."""

    library: ctypes.CDLL | None
    reason: str | None = None
    variant: str | None = None
    prefix: str = "llamabox_kernels"

    @property
    def products(self) -> int:
        """How many matrix products were ours since the process started."""
        return self._count("products")

    @property
    def attentions(self) -> int:
        """How many attentions were, of llama.cpp."""
        return self._count("attentions")

    @property
    def unfoldings(self) -> int:
        """How many images were made into matrices here, for convolutions of stable-diffusion.cpp."""
        return self._count("unfoldings")

    def _count(self, what: str) -> int:
        if self.library is None:
            return 0
        count = getattr(self.library, f"{self.prefix}_{what}")
        count.restype = ctypes.c_longlong
        return int(count())


def attach(llama: Any, cpuinfo: Path = Path("/proc/cpuinfo")) -> Kernels:
    """Lead the products and the attention of the ggml-cpu that ``llama``, the loaded libllama, uses. Idempotent."""
    tiled = ("ggml_compute_forward_mul_mat_tiled", "ggml_compute_forward_mul_mat_id_tiled")
    functions = ("llamafile_sgemm", *tiled, "ggml_compute_forward_flash_attn_ext", *_COMMON, "ggml_get_type_traits")
    return _attach(llama, "llamabox_kernels", functions, cpuinfo)


def attach_images(images: Any, cpuinfo: Path = Path("/proc/cpuinfo")) -> Kernels:
    """Lead the products and convolutions of ``images``, the loaded stable-diffusion.cpp. Idempotent."""
    functions = ("ggml_compute_forward_mul_mat", "ggml_compute_forward_im2col", *_COMMON)
    return _attach(images, "llamabox_images", functions, cpuinfo)


def _attach(host: Any, prefix: str, functions: tuple[str, ...], cpuinfo: Path) -> Kernels:
    wish = os.environ.get(VARIABLE, "")
    if wish == "off":
        return Kernels(None, f"{VARIABLE} is off")
    if wish not in (choices := ("off", "on", *build.VARIANTS)) and wish:
        return Kernels(None, f"{VARIABLE} is none of {', '.join(choices)}")
    if not build.supported():
        return Kernels(None, "there are none for this system")
    variant, reason = _choose(wish, set(cpuinfo.read_text(errors="replace").split()))
    if variant is None:
        return Kernels(None, reason)
    path = build.library(variant)
    if not path.exists():
        return Kernels(None, "they are not compiled: run tools/install.py")
    if missing := [name for name in functions if not hasattr(host, name)]:
        return Kernels(None, f"this build of the library has no {missing[0]} to find")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return Kernels(None, str(error))
    begin = getattr(library, f"{prefix}_attach")
    begin.restype = ctypes.c_bool
    if not begin(*(ctypes.cast(getattr(host, name), ctypes.c_void_p) for name in functions)):
        return Kernels(None, "this processor or this build of the library cannot use them")
    return Kernels(library, variant=variant, prefix=prefix)


def _choose(wish: str, processor: set[str]) -> tuple[str | None, str | None]:
    """The variant for a processor with these flags, or None and why."""
    if wish in build.VARIANTS:
        return wish, None
    if "avx512f" not in processor:
        return "avx2", None
    if wish != "on" and "amx_int8" in processor:
        return None, f"this processor has AMX, which they do not use ({VARIABLE}=on tries them)"
    if processor >= AVX512:
        return "avx512", None
    if wish != "on":
        return None, f"this processor has AVX-512 without VNNI, for which they are not made ({VARIABLE}=on tries them)"
    return "avx2", None


def all_ours(tensors: Iterable[Tensor]) -> bool:
    """Whether the products of all these weights are ours.

    None of the other types has a format of its own in llama.cpp on processors with AVX2: a model serves best as it is
    in its file, which ours need.
    """
    return all(tensor.type in TYPES | _FLOATS for tensor in tensors)
