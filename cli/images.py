"""From option values to the settings of images."""

from collections.abc import Mapping
from typing import Final

import attrs

from cli.cores import physical_cores
from cli.errors import UsageError
from cli.files import check_readable
from cli.image_placement import SERVERS, SPLIT, image_device
from cli.parse import FLAGS, Given
from engine.native.options import FlashAttention
from engine.native.sd.options import UpscalerOptions
from llamabox.settings import ImageSettings, Settings

_WARMUP: Final = "engine.warmup"
_THREADS: Final = "engine.context.n_threads"
_REPEATS: Final = "images.upscale_repeats"
_LOADING: Final = "engine.model."
_PLACES: Final = (f"{_LOADING}path", SERVERS, SPLIT)
# What these settings ask for only a text model can do.
_OF_TEXT: Final = ("engine.adapters.", "engine.embedding.", "engine.media.path", "source.")
_OF_TEXT_ROUTES: Final = frozenset({"server.infill", "server.slot_save_path"})


def image_settings(settings: Settings, values: Mapping[str, Given]) -> ImageSettings:
    """The image settings with the model's file in them, which --images takes from --model. Raises UsageError."""
    images = settings.images
    path = images.model or (settings.engine.model.path if images.enabled else None)
    if path is None:
        given = next((g for g in values.values() if (g.option.setting or "").startswith("images.")), None)
        if given is not None:
            raise UsageError(f"{given.spelling}: needs an image model (--image-model, or --images and --model)")
        return images
    if not path:
        raise UsageError("--images: needs an image model (--model)")
    check_readable(path, "--image-model" if images.model else "--model")
    n_threads = _threads_of(values)
    flash = settings.engine.context.flash_attention is FlashAttention.ON
    model = attrs.evolve(images.engine.model, model=path, n_threads=n_threads, flash_attention=flash)
    if not images.model:  # else these are about the text model
        servers = settings.engine.model.rpc_servers
        model = attrs.evolve(model, rpc_servers=servers, device=image_device(values))
    for _, part in model.parts():
        check_readable(part, part)
    upscaler = images.upscale_model
    if upscaler is not None:
        check_readable(upscaler, "--image-upscale-model")
    elif _REPEATS in values:
        raise UsageError(f"{values[_REPEATS].spelling}: needs --image-upscale-model")
    engine = attrs.evolve(
        images.engine,
        model=model,
        upscaler=UpscalerOptions(path=upscaler, n_threads=n_threads) if upscaler is not None else None,
        # On a small machine the emptiest image of a large model takes minutes: only where it was asked for.
        warmup=_WARMUP in values and settings.engine.warmup,
    )
    return attrs.evolve(images, engine=engine, seed=settings.defaults.sampling.seed)


def _threads_of(values: Mapping[str, Given]) -> int:
    given = values.get(_THREADS)
    return given.value if given is not None and given.value else physical_cores()


def check_images_only(values: Mapping[str, Given]) -> None:
    """UsageError for options that would do nothing where the only model makes images."""
    for given in values.values():
        setting = given.option.setting or ""
        # Where and how weights are loaded. Variables are there for all models.
        if setting.startswith(_LOADING) and setting not in _PLACES and given.spelling in FLAGS:
            raise UsageError(
                f"{given.spelling}: not for image models: the image library of this release has no such choice"
            )
        # HF_TOKEN is there for other programs too.
        if not given.value or given.spelling.startswith("HF_TOKEN"):
            continue
        if setting.startswith(_OF_TEXT) or setting in _OF_TEXT_ROUTES:
            hint = "; the LoRAs of an image model are --image-lora" if setting == "engine.adapters.loras" else ""
            raise UsageError(
                f"{given.spelling}: needs a text model: with --images that of --model makes images "
                f"(--image-model serves one beside it){hint}"
            )
