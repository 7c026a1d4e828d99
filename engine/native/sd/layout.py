"""Finds out whether the library's structures are those that the Python package declares.

``STABLE_DIFFUSION_CPP_LIB`` may name any build. A structure that is longer there than here means writes behind the end
of ours; so the library initialises one in a roomy buffer first, and it is seen how far it wrote and what.
"""

import ctypes
from typing import Any, Final

_ROOM: Final = 4096
_PATTERN: Final = 0xA5
_PADDING: Final = 8  # bytes at the end that an initialisation may leave out


def written_bytes(initialise: Any, room: int) -> bytes:
    """What ``initialise(address)`` makes of ``room`` patterned bytes, cut behind the last byte that it wrote."""
    buffer = ctypes.create_string_buffer(bytes([_PATTERN]) * room, room)
    initialise(ctypes.cast(buffer, ctypes.c_void_p))
    return buffer.raw.rstrip(bytes([_PATTERN]))


def _size_fault(name: str, structure: Any, initialise: Any) -> str | None:
    size = ctypes.sizeof(structure)
    written = len(written_bytes(initialise, size + _ROOM))
    if size - _PADDING < written <= size:
        return None
    return f"its {name} has about {written} bytes, the Python package's {size}: they are of different versions"


def _value_fault(module: Any, lib: Any) -> str | None:
    """Compare defaults that the library sets with where the package thinks they are."""
    context = module.sd_ctx_params_t()
    lib.sd_ctx_params_init(ctypes.byref(context))
    image = module.sd_img_gen_params_t()
    lib.sd_img_gen_params_init(ctypes.byref(image))
    seen = (
        context.vae_decode_only, context.free_params_immediately, context.wtype, context.chroma_t5_mask_pad,
        image.width, image.height, image.seed, image.batch_count, image.sample_params.sample_steps,
        image.sample_params.scheduler, image.clip_skip,
    )  # fmt: skip
    wanted = (True, True, 41, 1, 512, 512, -1, 1, 20, 11, -1)
    if seen != wanted:
        return f"its defaults are not where the Python package looks for them ({seen})"
    return None


def layout_fault(module: Any, lib: Any) -> str | None:
    """Why the library cannot be used through the package's structures, None if it can."""
    for name in ("sd_ctx_params_init", "sd_img_gen_params_init", "generate_image", "new_sd_ctx"):
        if not hasattr(lib, name):
            return f"it does not export {name}"
    if hasattr(lib, "free_sd_images"):
        return "its generate_image returns images in another form than the Python package expects"
    for name, structure in (
        ("sd_ctx_params", module.sd_ctx_params_t),
        ("sd_img_gen_params", module.sd_img_gen_params_t),
    ):
        fault = _size_fault(name, structure, getattr(lib, f"{name}_init"))
        if fault is not None:
            return fault
    return _value_fault(module, lib)
