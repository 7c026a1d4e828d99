"""What an image request must be for the library to survive it: one rule a function. Bad ones are InvalidRequest."""

import math
from collections.abc import Callable
from typing import Final

from engine.errors import InvalidRequest
from engine.image.info import ImageModelInfo
from engine.image.prompt_rules import check_prompt
from engine.image.requests import AnyRequest, ImageRequest, UpscaleRequest
from engine.native.sd.image import ImageParams, LoraUse, Pixels
from engine.native.sd.options import Sampler, Schedule

GRID: Final = 64  # pixels: sizes are multiples of it
MOST_STEPS: Final = 1000  # entries of the models' noise schedules
MOST_SCALE: Final = 1000.0  # of guidance and the like
MOST_PIXELS: Final = 64 * 1024 * 1024
MOST_LAYERS: Final = 256
_MOST_SEED: Final = 2**63 - 1
_SAMPLER: Final = "sample_method"
_SCHEDULE: Final = "schedule"
_STEPS: Final = "sampling_steps"

type Rule = Callable[[ImageRequest, ImageModelInfo], None]


def check_request(request: AnyRequest, info: ImageModelInfo) -> None:
    """Raise InvalidRequest for whatever the engine cannot or must not run.

    It names the parameter, and those by which it could be mended as well.
    """
    if isinstance(request, UpscaleRequest):
        _check_upscale(request.image.width, request.image.height, request.repeats, info, least=1)
        return
    for rule in RULES:
        rule(request, info)


def _refuse(message: str, param: str, *others: str) -> None:
    raise InvalidRequest(message, param, others)


def _number(value: float, name: str, least: float, most: float) -> None:
    if not math.isfinite(value) or not least <= value <= most:
        _refuse(f"{name} is {value:g}, it must be a number from {least:g} to {most:g}", name)


def _whole(value: int, name: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        _refuse(f"{name} is {value}, it must be a whole number from {least} to {most}", name)


def size(request: ImageRequest, info: ImageModelInfo) -> None:
    """Sizes that are zero, negative or huge end the process; others than multiples of 64 would be rounded."""
    params = request.params
    for value, most, what in ((params.width, info.max_width, "width"), (params.height, info.max_height, "height")):
        if type(value) is not int or value < GRID or value > most or value % GRID:
            _refuse(f"the {what} is {value}, it must be a multiple of {GRID} up to {most}", "size")


def count(request: ImageRequest, info: ImageModelInfo) -> None:
    """Images of a request."""
    _whole(request.n, "n", 1, info.max_batch)


def seed(request: ImageRequest, info: ImageModelInfo) -> None:
    """The seeds of all images of the request."""
    _whole(request.params.seed, "seed", 0, _MOST_SEED - request.n + 1)


def steps(request: ImageRequest, info: ImageModelInfo) -> None:
    """None or fewer steps end the process."""
    _whole(request.params.steps, _STEPS, 1, MOST_STEPS)


def methods(request: ImageRequest, info: ImageModelInfo) -> None:
    """A number beyond the library's samplers or schedules ends the process: only ours are let through."""
    if not isinstance(request.params.sampler, Sampler):
        _refuse(f"{request.params.sampler!r} is no sampler", _SAMPLER)
    if not isinstance(request.params.schedule, Schedule):
        _refuse(f"{request.params.schedule!r} is no schedule", _SCHEDULE)


def gits(request: ImageRequest, info: ImageModelInfo) -> None:
    """The GITS table begins with two steps; the library reads before its beginning."""
    if request.params.schedule is Schedule.GITS:
        _two_steps(request)


def ays(request: ImageRequest, info: ImageModelInfo) -> None:
    """AYS has tables for SD1 and SDXL alone; with others the library computes nonsense or reads from nowhere."""
    known = not info.kind.is_transformer and info.kind.family.value in ("SD1", "SDXL")
    if request.params.schedule is Schedule.AYS and not known:
        _refuse(f"the ays schedule works with SD1 and SDXL models, not with {info.version or 'this one'}", _SCHEDULE)


def spaced(request: ImageRequest, info: ImageModelInfo) -> None:
    """These two divide by the number of steps minus one."""
    if request.params.schedule in (Schedule.KARRAS, Schedule.EXPONENTIAL):
        _two_steps(request)


def _two_steps(request: ImageRequest) -> None:
    if request.params.steps < 2:
        name = request.params.schedule.name.lower()
        _refuse(f"the {name} schedule needs at least 2 steps; others, such as discrete, take 1", _SCHEDULE, _STEPS)


def numbers(request: ImageRequest, info: ImageModelInfo) -> None:
    """NaN and infinity end the process, or give a picture of one colour."""
    params = request.params
    _number(params.strength, "strength", 0.0, 1.0)
    _number(params.cfg_scale, "cfg_scale", 0.0, MOST_SCALE)
    _number(params.guidance, "guidance", 0.0, MOST_SCALE)
    _number(params.slg_scale, "slg_scale", 0.0, MOST_SCALE)
    _number(params.slg_start, "slg_start", 0.0, 1.0)
    _number(params.slg_end, "slg_end", 0.0, 1.0)
    _number(params.control_strength, "control_strength", 0.0, MOST_SCALE)


def skip_layers(request: ImageRequest, info: ImageModelInfo) -> None:
    """Skip-layer guidance: a count without layers ends the process; UNets have no such layers; it needs some time."""
    params = request.params
    if not params.slg_scale:
        return
    if not info.kind.is_transformer:
        _refuse(f"skip-layer guidance does not work with {info.version} models", "slg_scale")
    if not 1 <= len(params.slg_layers) <= MOST_LAYERS:
        _refuse(f"skip-layer guidance takes 1 to {MOST_LAYERS} layers", "slg_skip_layers", "slg_scale")
    if params.slg_start >= params.slg_end:
        _refuse(
            f"skip-layer guidance would last no time: slg_end ({params.slg_end:g}) is not behind "
            f"slg_start ({params.slg_start:g})",
            "slg_start",
            "slg_end",
            "slg_scale",
        )
    for layer in params.slg_layers:
        _whole(layer, "slg_skip_layers", 0, MOST_LAYERS - 1)


def prompts(request: ImageRequest, info: ImageModelInfo) -> None:
    """Long prompts and weights that are no numbers end the process; see ``prompt_rules``."""
    check_prompt(request.params.prompt, "prompt")
    check_prompt(request.params.negative_prompt, "negative_prompt")


def pictures(request: ImageRequest, info: ImageModelInfo) -> None:
    """Images must have three channels and pixels, a mask one channel; a mask without an image masks nothing."""
    params = request.params
    for image, channels, name in (
        (params.init_image, 3, "image"),
        (params.mask, 1, "mask"),
        (params.control_image, 3, "control"),
    ):
        if image is not None:
            _picture(image, channels, name)
    if params.mask is not None and params.init_image is None:
        _refuse("a mask needs an image", "mask")


def _picture(image: Pixels, channels: int, name: str) -> None:
    whole = image.width > 0 and image.height > 0 and len(image.data) == image.width * image.height * channels
    if image.channels != channels or not whole:
        _refuse(f"the {name} must have pixels of {channels} bytes", name)
    if image.width * image.height > MOST_PIXELS:
        _refuse(f"the {name} has {image.width}x{image.height} pixels, at most {MOST_PIXELS} are possible", name)


def control(request: ImageRequest, info: ImageModelInfo) -> None:
    """The library ignores control images silently where nothing looks at them."""
    params = request.params
    if params.control_image is not None and not (info.has_control_net or info.kind.takes_control):
        _refuse("the server runs without a ControlNet (--image-control-net-model)", "control")
    if request.canny and params.control_image is None:
        _refuse("edges can be found in a control image only", "control_canny")


def loras(request: ImageRequest, info: ImageModelInfo) -> None:
    """Only files that were tried at the start: one that does not fit the model ends the process."""
    uses: tuple[LoraUse, ...] = request.params.loras
    for use in uses:
        if use.path not in info.loras:
            _refuse(f"{use.path} is none of the server's LoRAs", "lora")
        if not math.isfinite(use.scale) or abs(use.scale) > MOST_SCALE:
            _refuse(f"a LoRA's scale is {use.scale:g}, it must be a number of at most {MOST_SCALE:g}", "lora")
    if len({use.path for use in uses}) != len(uses):
        _refuse("a LoRA is given twice", "lora")


def upscaling(request: ImageRequest, info: ImageModelInfo) -> None:
    """The size after upscaling."""
    _check_upscale(request.params.width, request.params.height, request.upscale_repeats, info, least=0)


def _check_upscale(width: int, height: int, repeats: int, info: ImageModelInfo, *, least: int) -> None:
    _whole(repeats, "upscale_repeats", least, 8)
    if not repeats:
        return
    if info.upscale_factor < 1:
        _refuse("the server runs without an upscaler (--image-upscale-model)", "upscale_repeats")
    scale = info.upscale_factor**repeats
    if width * height * scale * scale > MOST_PIXELS:
        _refuse(
            f"an image of {width}x{height}, upscaled {repeats} times by {info.upscale_factor}, would have "
            f"{width * scale}x{height * scale} pixels, at most {MOST_PIXELS} are possible: it must be smaller, or "
            "upscaled less often (upscale_repeats)",
            "upscale_repeats",
            "size",
        )


RULES: Final[tuple[Rule, ...]] = (
    size, count, seed, steps, methods, gits, ays, spaced, numbers, skip_layers, prompts, pictures, control, loras,
    upscaling,
)  # fmt: skip


def default_params(info: ImageModelInfo, prompt: str, seed: int) -> ImageParams:  # noqa: A002, RUF100
    """The parameters that the model's kind is usually asked with, at its native size as far as the limits allow."""
    wanted = info.kind.defaults
    return ImageParams(
        prompt=prompt,
        width=info.default_width,
        height=info.default_height,
        seed=seed,
        sampler=wanted.sampler,
        steps=wanted.steps,
        cfg_scale=wanted.cfg_scale,
        guidance=wanted.guidance,
        strength=wanted.strength,
    )
