"""Brings an image engine up on the calling thread: trial, model, upscaler, warm-up."""

import logging
import os
import sys
import threading
from collections.abc import Callable

import attrs

from engine.errors import ModelLoadError, NativeError
from engine.image.loop import ImageLoop, Publish, StartedImages
from engine.image.options import ImageEngineOptions
from engine.image.rules import GRID, default_params
from engine.image.sd_backend import SdBackend
from engine.native.sd import trial
from engine.native.sd.context import check_options

log = logging.getLogger("engine.image")

MOST_NICENESS = 19


def start_image_engine(
    options: ImageEngineOptions, publish: Publish, go_on: Callable[[], bool] = lambda: True
) -> StartedImages:
    """Load the model and make it ready. Raises ModelLoadError, also once ``go_on`` says no.

    It is asked between the steps: the library loads a model to its end.
    """
    check_sizes(options)
    check_options(options.model)
    stand_back(options.niceness)
    if options.trial:
        trial.check(options.model, options.upscaler, go_on=go_on)
    _check_wanted(go_on)
    backend = SdBackend(options)
    try:
        _check_wanted(go_on)
        if not backend.info.can_abort:
            log.info("a running image cannot be stopped with this device: a cancelled one is computed to its end")
        if options.warmup:
            params = attrs.evolve(default_params(backend.info, "", 0), width=GRID, height=GRID, steps=2)
            try:
                backend.generate(params, lambda step, steps: None, lambda step, frame: None)
            except NativeError as error:  # a model that fills masks makes nothing of nothing
                log.warning("the warm-up made no image: %s", error)
        return StartedImages(backend, ImageLoop(backend, publish))
    except BaseException:
        backend.close()
        raise


def _check_wanted(go_on: Callable[[], bool]) -> None:
    if not go_on():
        raise ModelLoadError("the load of the image model was stopped")


def check_sizes(options: ImageEngineOptions) -> None:
    """Limits that no image could keep. Raises ModelLoadError."""
    for value, name in ((options.max_width, "width"), (options.max_height, "height")):
        if value < GRID or value % GRID:
            raise ModelLoadError(f"the largest {name} of images is {value}, it must be a multiple of {GRID}")
    if options.max_batch < 1:
        raise ModelLoadError(f"{options.max_batch} images at most of a request: it must be 1 or more")


def stand_back(niceness: int) -> None:
    """Let the calling thread, and those that it starts, yield to threads of a lower niceness (Linux only).

    On Linux a niceness is a thread's own, and OpenMP's helpers inherit it from the thread that computes with them.
    """
    if not 0 <= niceness <= MOST_NICENESS:
        raise ModelLoadError(f"the image engine's niceness is {niceness}, it must be 0 to {MOST_NICENESS}")
    if not niceness or not sys.platform.startswith("linux"):
        return
    try:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
    except OSError as error:
        log.warning("images run at the same priority as text: %s", error)
