"""An image request, ready to run."""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from api.errors import bad_request, not_supported
from api.gate import image_model_name
from api.http import ApiRequest
from api.images.fields import SAMPLER, SCHEDULE, ImageFields, ImageStreamOptions
from api.images.unoffered import refuse_unoffered
from engine.image.info import ImageModelInfo
from engine.image.names import SAMPLERS, SCHEDULES
from engine.image.prompt_rules import clean_prompt
from engine.image.requests import ImageRequest
from engine.image.rules import GRID, MOST_STEPS
from engine.image_bridge import ImageEngine
from engine.native.sd.image import ImageParams, LoraUse
from engine.native.sd.options import Preview, Sampler, Schedule
from llamabox.images.encode import OutputFormat
from llamabox.services import Services
from llamabox.settings import ImageSettings

DEFAULT_CHUNK: Final = 4096
LEAST_SIDE: Final = 256
HD_STEPS: Final = 2  # more of them for the qualities "hd" and "high"
_SIZE: Final = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_SEEDS: Final = 2**32
_QUALITY: Final = 95


@attrs.frozen(kw_only=True)
class ImageJob:
    """``request`` and how its images are to be told of."""

    request: ImageRequest
    model: str
    created: int  # Unix time
    output: OutputFormat
    quality: int
    streaming: bool
    include_usage: bool
    chunk_size: int | None  # characters of base64 in one event; None: whole images
    partial_images: int | None  # pictures of an image's steps among OpenAI's events; None: our events


def image_side(services: Services) -> ImageEngine:
    """The image engine. Raises ApiError 501 where no image model is loaded."""
    if services.images is None:
        raise not_supported("This server makes no images: start it with --image-model, or --images and -m")
    return services.images


def wanted_size(fields: ImageFields, info: ImageModelInfo) -> tuple[int, int]:
    """(width, height). Raises ApiError 400."""
    if fields.size is None or fields.size == "auto":
        return info.default_width, info.default_height
    match = _SIZE.fullmatch(fields.size)
    if match is None:
        raise bad_request(
            f"size: {fields.size!r} is not a size like {info.default_width}x{info.default_height}", "size"
        )
    width, height = int(match[1]), int(match[2])
    for side, most in ((width, info.max_width), (height, info.max_height)):
        if side < LEAST_SIDE or side > most or side % GRID:
            raise bad_request(f"size: {side} is not one of the multiples of {GRID} from {LEAST_SIDE} to {most}", "size")
    return width, height


def build_image_job(services: Services, request: ApiRequest, fields: ImageFields) -> ImageJob:
    """Everything but the pictures of an edit. Raises ApiError."""
    info = image_side(services).info
    settings = services.settings.images
    refuse_unoffered(fields)
    output, compression = OutputFormat(fields.output_format or "png"), fields.output_compression
    if output is OutputFormat.PNG and compression not in (None, 100):
        raise bad_request("output_compression: a PNG has no quality", "output_compression")
    if fields.response_format == "url":
        raise bad_request("response_format: images are sent as b64_json only", "response_format")
    options = fields.stream_options
    streaming = bool(fields.stream)
    chunked = options is not None and bool(options.chunk_result)
    if fields.partial_images is not None and not streaming:
        raise bad_request("partial_images: they are events of a stream; set stream", "partial_images")
    if fields.partial_images is not None and chunked:
        raise bad_request("partial_images: OpenAI's events carry whole images, not pieces", "partial_images")
    return ImageJob(
        request=image_request(f"img-{request.uid}", fields, settings, info),
        model=image_model_name(services, fields.model),
        created=int(time.time()),
        output=output,
        quality=_QUALITY if compression is None else compression,
        streaming=streaming,
        include_usage=options is None or options.include_usage is not False,
        chunk_size=((options and options.chunk_size) or DEFAULT_CHUNK) if streaming and chunked else None,
        partial_images=fields.partial_images,
    )


def image_request(uid: str, fields: ImageFields, settings: ImageSettings, info: ImageModelInfo) -> ImageRequest:
    """What the engine is to make, but for the pictures of an edit. Raises ApiError."""
    return ImageRequest(
        id=uid,
        params=_params(fields, settings, info),
        n=fields.n or 1,
        canny=bool(fields.control_canny),
        upscale_repeats=_repeats(fields, settings, info),
    )


def _params(fields: ImageFields, settings: ImageSettings, info: ImageModelInfo) -> ImageParams:
    wanted, usual = settings, info.kind.defaults
    width, height = wanted_size(fields, info)
    steps = _first(fields.sampling_steps, fields.sample_steps, wanted.steps, usual.steps)
    if fields.quality in ("hd", "high"):
        steps += HD_STEPS
        if steps > MOST_STEPS:
            raise bad_request(
                f"quality: with {HD_STEPS} more of them there are {steps} steps, at most {MOST_STEPS} are possible",
                "quality",
            )
    return ImageParams(
        prompt=clean_prompt(_prompt(fields)),
        negative_prompt=clean_prompt(fields.negative_prompt or ""),
        width=width,
        height=height,
        seed=_seed(fields, wanted),
        sampler=_sampler(fields, _first(wanted.sampler, usual.sampler)),
        schedule=_schedule(fields, wanted.schedule),
        steps=steps,
        cfg_scale=_first(fields.cfg_scale, wanted.cfg_scale, usual.cfg_scale),
        guidance=_first(fields.guidance, wanted.guidance, usual.guidance),
        slg_scale=_first(fields.slg_scale, wanted.slg_scale),
        slg_layers=tuple(fields.slg_skip_layers) if fields.slg_skip_layers is not None else wanted.slg_layers,
        slg_start=_first(fields.slg_start, wanted.slg_start),
        slg_end=_first(fields.slg_end, wanted.slg_end),
        strength=_first(fields.strength, wanted.strength, usual.strength),
        control_strength=_first(fields.control_strength, wanted.control_strength),
        loras=_loras(fields, info),
        preview=_preview(fields),
        vae_tiling=wanted.vae_tiling,
    )


def _prompt(fields: ImageFields) -> str:
    parts = [fields.prompt, fields.style and f"{fields.style} style"]
    return ", ".join(part for part in parts if part)


def _first[T](*values: T | None) -> T:
    """The first one that is given."""
    for value in values:
        if value is not None:
            return value
    raise AssertionError("the last one is a default")


def _seed(fields: ImageFields, settings: ImageSettings) -> int:
    """A request that says -1 wants chance, also where the server has a seed."""
    wanted = settings.seed if fields.seed is None else fields.seed
    return secrets.randbelow(_SEEDS) if wanted is None or wanted < 0 else wanted


def _sampler(fields: ImageFields, default: Sampler) -> Sampler:
    return _chosen(fields, SAMPLER, SAMPLERS, default)


def _schedule(fields: ImageFields, default: Schedule) -> Schedule:
    return _chosen(fields, SCHEDULE, SCHEDULES, default)


def _chosen[T](fields: ImageFields, names: Sequence[str], choices: Mapping[str, T], default: T) -> T:
    """What the first of the fields that is given names. Raises ApiError 400."""
    for name in names:
        if wanted := getattr(fields, name):
            if wanted.lower() not in choices:
                raise bad_request(f"{name}: {wanted!r} is none of {', '.join(choices)}", name)
            return choices[wanted.lower()]
    return default


def _loras(fields: ImageFields, info: ImageModelInfo) -> tuple[LoraUse, ...]:
    """Ids count the files in the order of the command line."""
    uses = []
    for wanted in fields.lora or ():
        if wanted.id >= len(info.loras):
            raise bad_request(f"lora: there is no LoRA {wanted.id}, the server has {len(info.loras)}", "lora")
        if wanted.scale:
            uses.append(LoraUse(path=info.loras[wanted.id], scale=wanted.scale))
    return tuple(uses)


def _preview(fields: ImageFields) -> Preview:
    options = fields.stream_options or ImageStreamOptions()
    if not fields.stream or fields.partial_images == 0:
        return Preview.NONE
    if options.preview and not options.preview_faster:
        return Preview.FULL
    return Preview.FAST if options.preview_faster or fields.partial_images else Preview.NONE


def _repeats(fields: ImageFields, settings: ImageSettings, info: ImageModelInfo) -> int:
    """Who starts the server with an upscaler wants its images upscaled."""
    if fields.upscale_repeats is not None:
        return fields.upscale_repeats
    return settings.upscale_repeats if info.upscale_factor else 0
