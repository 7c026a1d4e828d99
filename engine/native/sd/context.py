"""A loaded image model. All its calls are made by one thread: two at once in one context end the process."""

import ctypes
import re
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import attrs

from engine.errors import ModelLoadError, NativeError
from engine.native.sd import library
from engine.native.sd.abort import Canceller, canceller_for
from engine.native.sd.callbacks import Call, copy_image, explain, router
from engine.native.sd.image import ImageParams, RgbImage
from engine.native.sd.native_params import context_params, image_params
from engine.native.sd.options import MOST_THREADS, ImageModelOptions
from engine.native.sd.weights import check_lora, check_model, check_weights

# The library's names of the models that look at a ControlNet. Another one computes nothing of it, or ends the process:
# a ControlNet reads latents of four channels.
_UNET: Final = re.compile(r"SD [12]\.|SDXL|SDXS|Instruct-Pix2Pix")
_LOADING_CONTROL_NET: Final = "loading control net from"
_VERSION: Final = re.compile(r"^Version: (.+)$")
_ENCODED: Final = "get_learned_condition completed"  # the prompt is encoded: from here on an abort is safe
_SAMPLING: Final = "generating image:"
_SAMPLED: Final = re.compile(r"^sampling (completed|for image)")

type OnProgress = Callable[[int, int], None]
type OnPreview = Callable[[int, RgbImage], None]


@attrs.frozen(kw_only=True)
class Generated:
    """A picture and the seconds that it took: to prepare (encoding prompt and images), and to sample and decode."""

    image: RgbImage
    process_seconds: float
    generate_seconds: float
    steps: int


class _Loading:
    """Hears which kind of model is loaded, and when it is the ControlNet's turn."""

    def __init__(self) -> None:
        self.version = ""
        self.at_control_net = False

    def log_line(self, line: str) -> None:
        if line.startswith(_LOADING_CONTROL_NET):
            self.at_control_net = True
        match = _VERSION.match(line)
        if match is not None:
            self.version = match[1].strip()

    def progress(self, step: int, steps: int) -> None:
        """How far the loading is: nobody asks."""

    def preview(self, step: int, frame: RgbImage) -> None:
        """There is none of a load."""


class _Watch:
    """Follows one generation through its phases by what the library says."""

    def __init__(self, canceller: Canceller | None, on_progress: OnProgress, on_preview: OnPreview) -> None:
        self.call: Call | None = None
        self.sampling_since: float | None = None
        self.steps = 0
        self._canceller = canceller
        self._on_progress = on_progress
        self._on_preview = on_preview
        self._sampling = False
        self._last = -1

    def log_line(self, line: str) -> None:
        if line.startswith(_ENCODED):
            if self._canceller is not None and self.call is not None and self.call.alone:
                self._canceller.arm()
        elif line.startswith(_SAMPLING):
            self._sampling, self.sampling_since = True, monotonic()
        elif _SAMPLED.match(line):
            self._sampling = False

    def progress(self, step: int, steps: int) -> None:
        if not self._sampling or step <= self._last:
            return  # weights, tiles; or the second evaluation of a step
        self._last, self.steps = step, steps
        self._on_progress(step, steps)

    def preview(self, step: int, frame: RgbImage) -> None:
        if self._sampling:
            self._on_preview(abs(step), frame)


class ImageContext:
    """One model in memory. Made, used and closed by one thread; ``abort`` and ``clear_abort`` are for all."""

    def __init__(self, options: ImageModelOptions) -> None:
        """Load the files. Raises ModelLoadError, which names the file and the reason."""
        self.options = options
        check_options(options)
        self._module = library.load()
        router.install(self._module)
        self._thread = threading.get_ident()
        self._aborting = False
        listener = _Loading()
        params = context_params(self._module, options)
        with router.calling(listener) as call:
            handle = self._module.new_sd_ctx(ctypes.byref(params))
        main = options.model or options.diffusion_model
        self.version = listener.version  # the library's name of the model's kind, "" if it did not say
        self._handle: Any = handle
        if options.control_net is not None and self.version and not takes_control_net(self.version):
            self.close()
            raise ModelLoadError(
                f"cannot use {options.control_net}: a ControlNet works with SD 1.x, SD 2.x and SDXL models, "
                f"{main} is {self.version}"
            )
        if not handle:
            failed = options.control_net if listener.at_control_net else main
            raise ModelLoadError(f"cannot load {failed}: {explain(call.errors)}")
        if not self._module.sd_ctx_supports_image_generation(handle):
            self.close()
            raise ModelLoadError(f"cannot use {main}: {self.version or 'it'} makes videos, not images")
        address = ctypes.cast(handle, ctypes.c_void_p).value
        assert address is not None, "a handle that is not null has an address"
        self._canceller = canceller_for(library.native(self._module), address)

    @property
    def can_abort(self) -> bool:
        """Whether a running image can be stopped."""
        return self._canceller is not None

    def generate(self, params: ImageParams, on_progress: OnProgress, on_preview: OnPreview) -> Generated | None:
        """Make one image; None: it was aborted. Raises NativeError when the library fails or computes nonsense.

        ``params`` must have passed ``engine.image.rules``. The functions are called on this thread, within the call:
        progress with (0, steps) … (steps, steps), previews with the step that they show.
        """
        self._check_thread()
        watch = _Watch(self._canceller, on_progress, on_preview)
        native = image_params(self._module, params)
        began = monotonic()
        with router.calling(watch, params.preview) as call:
            watch.call = call
            try:
                result = self._module.generate_image(self._handle, ctypes.byref(native))
            finally:
                if self._canceller is not None:
                    self._canceller.disarm()
        ended = monotonic()
        image = _take(result)
        if image is None:
            if self._aborting:
                return None
            raise NativeError(f"the image could not be generated: {explain(call.errors)}")
        if image.is_one_colour:
            raise NativeError("the image came out in one colour: the model computed no numbers")
        sampling_since = watch.sampling_since or began
        return Generated(
            image=image,
            process_seconds=sampling_since - began,
            generate_seconds=ended - sampling_since,
            steps=watch.steps,
        )

    def abort(self) -> None:
        """Make a running ``generate`` return None soon, where ``can_abort``. Any thread; until ``clear_abort``."""
        self._aborting = True
        if self._canceller is not None:
            self._canceller.abort()

    def clear_abort(self) -> None:
        """Let images run again. Any thread."""
        self._aborting = False
        if self._canceller is not None:
            self._canceller.clear()

    def close(self) -> None:
        """Free the model. Idempotent."""
        if not self._handle:
            return
        self._check_thread()
        handle, self._handle = self._handle, None
        with router.calling():
            self._module.free_sd_ctx(handle)

    def _check_thread(self) -> None:
        assert threading.get_ident() == self._thread, "a context is used by the thread that made it"


def takes_control_net(version: str) -> bool:
    """Whether a model that the library calls ``version`` looks at a ControlNet."""
    return _UNET.match(version) is not None


def check_options(options: ImageModelOptions) -> None:
    """Refuse what would end the process while loading. Raises ModelLoadError."""
    if options.model is None and options.diffusion_model is None:
        raise ModelLoadError("no image model is given")
    if not 1 <= options.n_threads <= MOST_THREADS:
        raise ModelLoadError(f"an image model takes 1 to {MOST_THREADS} threads, not {options.n_threads}")
    for _, path in options.parts():
        if path in (options.model, options.diffusion_model):
            check_model(path)
        else:
            check_weights(path)
    for path in options.loras:
        check_lora(path)


def _take(result: Any) -> RgbImage | None:
    """Copy the one image of a result and free what the library has handed out."""
    if not result:
        return None
    free = library.libc_free()
    try:
        return copy_image(result[0])
    finally:
        free(ctypes.cast(result[0].data, ctypes.c_void_p))
        free(ctypes.cast(result, ctypes.c_void_p))
