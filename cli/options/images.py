"""Options about generating images."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import FILE, SHARE, Form, Kind, Real, Whole, choice
from cli.option import Option, Section

SAMPLERS: Final = (
    "euler_a", "euler", "heun", "dpm2", "dpm++2s_a", "dpm++2m", "dpm++2mv2", "ipndm", "ipndm_v", "lcm",
    "ddim_trailing", "tcd",
)  # fmt: skip
SCHEDULES: Final = ("default", "discrete", "karras", "exponential", "ays", "gits")

_later = partial(Option, section=Section.IMAGES, available=False, refusal="image models are not part of this release")
_size: Final = Form("a multiple of 64 of at least 256", forms.image_size)


def _value(flags: str, kind: Kind, default: str, help: str) -> Option:  # noqa: A002  (the table's word)
    return _later(flags=flags, kind=kind, metavar="N", default=default, help=help)


def _model(flags: str, help: str) -> Option:  # noqa: A002  (the table's word)
    return _later(flags=flags, kind=FILE, metavar="FILE", help=help)


IMAGES: Final = (
    _value("--image-max-batch", Whole(minimum=1), "4", "most images of one request"),
    _value("--image-max-height", _size, "1024", "most pixels of height"),
    _value("--image-max-width", _size, "1024", "most pixels of width"),
    _value("--image-guidance", Real(), "3.5", "distilled guidance"),
    _value("--image-strength", SHARE, "by model", "how much of an edited image is repainted"),
    _later(
        flags="--image-sample-method --image-sampler",
        kind=choice(*SAMPLERS),
        metavar="NAME",
        default="by model",
        help=f"sampler: {' '.join(SAMPLERS)}",
    ),
    _value("--image-sampling-steps --image-sample-steps", Whole(minimum=1), "by model", "sampling steps"),
    _value("--image-cfg-scale", Real(), "by model", "classifier-free guidance; 1 = off"),
    _value("--image-slg-scale", Real(), "0", "skip-layer guidance; 0 = off"),
    _later(
        flags="--image-slg-skip-layer",
        kind=Form("layer numbers by semicolon", forms.layer_list),
        metavar="N;...",
        repeat=True,
        default="7;8;9",
        help="layers to skip; the first use clears the defaults; repeatable",
    ),
    _value("--image-slg-start", SHARE, "0.01", "share of the steps after which it begins"),
    _value("--image-slg-end", SHARE, "0.20", "share of the steps after which it ends"),
    _later(
        flags="--image-schedule-method --image-schedule",
        kind=choice(*SCHEDULES),
        metavar="NAME",
        default="discrete",
        help=f"schedule: {' '.join(SCHEDULES)}",
    ),
    _later(flags="--image-no-text-encoder-model-offload", help="text encoder in main memory"),
    _later(flags="--image-no-vae-model-offload", help="VAE in main memory"),
    _later(flags="--image-no-control-net-model-offload", help="ControlNet in main memory"),
    _model("--image-clip-l-model", "CLIP-L text encoder"),
    _model("--image-clip-g-model", "CLIP-G text encoder"),
    _model("--image-t5xxl-model", "T5-XXL text encoder"),
    _model("--image-vae-model", "VAE"),
    _later(
        flags="--image-vae-tiling",
        off="--image-no-vae-tiling",
        default="off",
        help="decode in tiles: less memory",
    ),
    _model("--image-taesd-model", "TAESD, a small VAE"),
    _model("--image-upscale-model", "upscaler"),
    _value("--image-upscale-repeats", Whole(minimum=1), "1", "how often to upscale"),
    _model("--image-control-net-model", "ControlNet"),
    _value("--image-control-strength", SHARE, "0.9", "its strength"),
    _later(flags="--image-control-canny", help="find the edges of the control image"),
    _later(flags="--image-free-compute-memory-immediately", help="give memory back after every image"),
)
