"""ESRGAN upscaling and edge detection."""

import ctypes
import threading
from typing import Any, Final

from engine.errors import ModelLoadError, NativeError
from engine.native.sd import library
from engine.native.sd.abort import hook_for
from engine.native.sd.callbacks import copy_image, explain, router
from engine.native.sd.image import RgbImage
from engine.native.sd.native_params import image_struct
from engine.native.sd.options import MOST_THREADS, UpscalerOptions
from engine.native.sd.weights import check_weights

# The library's own example values: high and low threshold, weak and strong edges.
_CANNY: Final = (0.08, 0.08, 0.8, 1.0)


class Upscaler:
    """An upscaling model in memory. Made, used and closed by one thread; ``abort`` and ``clear_abort`` are for all."""

    def __init__(self, options: UpscalerOptions) -> None:
        """Load the file. Raises ModelLoadError, which names the file and the reason."""
        check_weights(options.path)
        if not 1 <= options.n_threads <= MOST_THREADS:
            raise ModelLoadError(f"an upscaler takes 1 to {MOST_THREADS} threads, not {options.n_threads}")
        self._module = library.load()
        router.install(self._module)
        self._thread = threading.get_ident()
        self._aborting = False
        with router.calling() as call:
            handle = self._module.new_upscaler_ctx(
                options.path.encode(), options.offload_params_to_cpu, False, options.n_threads, options.tile_size
            )
        if not handle:
            raise ModelLoadError(f"cannot load {options.path}: {explain(call.errors)}")
        self._handle: Any = handle
        self.factor = int(self._module.get_upscale_factor(handle))
        address = ctypes.cast(handle, ctypes.c_void_p).value
        assert address is not None, "a handle that is not null has an address"
        self._hook = hook_for(library.native(self._module), address)
        if self._hook is not None:
            self._hook.arm()  # nothing in an upscaling is hurt by an abort

    def upscale(self, image: RgbImage) -> RgbImage | None:
        """The image, ``factor`` times as wide and high; None: it was aborted. Raises NativeError."""
        assert threading.get_ident() == self._thread, "an upscaler is used by the thread that made it"
        with router.calling() as call:
            result = self._module.upscale(self._handle, image_struct(self._module, image), self.factor)
        try:
            larger = copy_image(result)
        finally:
            library.libc_free()(ctypes.cast(result.data, ctypes.c_void_p))
        if larger is None:
            if self._aborting:
                return None
            raise NativeError(f"the image could not be upscaled: {explain(call.errors)}")
        if larger.is_one_colour and not image.is_one_colour:
            raise NativeError("the upscaled image came out in one colour: the model computed no numbers")
        return larger

    def abort(self) -> None:
        """Make a running ``upscale`` return None soon, where there is a hook for its device. Any thread."""
        self._aborting = True
        if self._hook is not None:
            self._hook.abort()

    def clear_abort(self) -> None:
        """Let upscalings run again. Any thread."""
        self._aborting = False
        if self._hook is not None:
            self._hook.clear()

    def close(self) -> None:
        """Free the model. Idempotent."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with router.calling():
            self._module.free_upscaler_ctx(handle)


def canny(image: RgbImage) -> RgbImage:
    """The edges of the image, white on black, as control images want them. Takes a second for a megapixel."""
    module = library.load()
    router.install(module)
    struct = image_struct(module, image)  # a copy, which the library writes to
    with router.calling():
        done = module.preprocess_canny(struct, *_CANNY, False)
    edges = copy_image(struct)
    if not done or edges is None:
        raise NativeError("the edges of the control image could not be found")
    return edges
