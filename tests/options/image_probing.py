"""Ways of seeing what an option about images does; see ``probing``."""

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import attrs
import trio

from engine.image import sd_backend
from engine.image import start as starting
from engine.image.loop import ImageLoop, StartedImages
from engine.image_bridge import open_image_engine
from engine.native.sd import library, loading
from engine.native.sd.native_params import context_params, image_params
from llamabox.settings import Settings
from tests.api.conftest import Client, Reply
from tests.api.images.pictures import EDITS, png, url
from tests.images.fake_backend import INFO, FakeImageBackend
from tests.options.probing import Probe, services_of


def in_image_model(field: str) -> Probe:
    """A field of sd_ctx_params_t."""
    return lambda settings: getattr(context_params(library.load(), settings.images.engine.model), field)


def _sd_backend(settings: Settings) -> tuple[Any, Any]:
    """The backend as it is made, and how its upscaler was."""
    with (
        mock.patch.object(loading, "ImageContext") as context,
        mock.patch.object(loading, "Upscaler") as upscaler,
    ):
        context.return_value.version = INFO.version
        upscaler.return_value.factor = INFO.upscale_factor
        return sd_backend.SdBackend(settings.images.engine), upscaler.call_args


def image_info(field: str) -> Probe:
    """What the engine says of the loaded model, by which requests are checked."""
    return lambda settings: getattr(_sd_backend(settings)[0].info, field)


def upscaler_of(settings: Settings) -> Any:
    """What the upscaler is made with, None where there is none."""
    return _sd_backend(settings)[1]


def thread_priority(settings: Settings) -> Any:
    """How far the image thread stands back."""
    with (
        mock.patch.object(starting, "check_options"),
        mock.patch.object(starting, "SdBackend", side_effect=ZeroDivisionError),
        mock.patch.object(starting.trial, "check"),
        mock.patch.object(starting.os, "getpriority", return_value=0),
        mock.patch.object(starting.os, "setpriority") as told,
        contextlib.suppress(ZeroDivisionError),
    ):
        starting.start_image_engine(settings.images.engine, lambda batch: None)
    return told.call_args.args[-1]


class _Counting(FakeImageBackend):
    """Counts how often it upscaled."""

    upscaled = 0

    def upscale(self, image: Any) -> Any:
        self.upscaled += 1
        return super().upscale(image)


def _edited(settings: Settings) -> _Counting:
    """The backend after an edit whose request says nothing but the pictures and the prompt."""

    async def ask() -> tuple[_Counting, Reply]:
        engine = settings.images.engine
        info = attrs.evolve(INFO, upscale_factor=INFO.upscale_factor if engine.upscaler is not None else 0)
        backend = _Counting(info)
        async with open_image_engine(
            lambda publish: StartedImages(backend, ImageLoop(backend, publish)), preview_buffer=1
        ) as images:
            services = services_of(settings)
            services.images, services.image_ids = images, ("image",)
            body = {"prompt": "a cat", "seed": 1, "size": "256x256", "image": url(png()), "control": url(png())}
            return backend, await Client(services).post(EDITS, body)

    backend, reply = trio.run(ask)
    assert reply.status == 200, reply.body
    return backend


def in_image(read: Callable[[Any], Any]) -> Probe:
    """Something of sd_img_gen_params_t, as it is built for an edit that says nothing."""
    return lambda settings: read(image_params(library.load(), _edited(settings).made[0]))


def layers_of(params: Any) -> list[int]:
    """The layers that skip-layer guidance skips."""
    slg = params.sample_params.guidance.slg
    return list(slg.layers[: slg.layer_count])


def control_pixels(params: Any) -> bytes:
    """The control image as the library sees it."""
    image = params.control_image
    return bytes(image.data[: image.width * image.height * image.channel])


def upscalings(settings: Settings) -> int:
    """How often the image of an edit was upscaled."""
    return _edited(settings).upscaled
