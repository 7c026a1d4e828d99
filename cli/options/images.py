"""Options about generating images."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import FILE, FILES, SHARE, Form, Kind, Real, Switch, Whole, Words
from cli.option import Option, Section
from engine.image.names import SAMPLERS, SCHEDULES

_MOST_STEPS: Final = 1000
_MOST_NICENESS: Final = 19

_option = partial(Option, section=Section.IMAGES)
_SCALE: Final = Real(minimum=0, maximum=1000)
_size: Final = Form("a multiple of 64 of at least 256", forms.image_size)


def _value(flags: str, kind: Kind, setting: str, help: str, default: str = "") -> Option:  # noqa: A002  (the table's word)
    return _option(flags=flags, kind=kind, metavar="N", setting=f"images.{setting}", default=default, help=help)


def _model(flags: str, part: str, help: str) -> Option:  # noqa: A002  (the table's word)
    return _option(flags=flags, kind=FILE, metavar="FILE", setting=f"images.engine.model.{part}", help=help)


IMAGES: Final = (
    _option(
        flags="--image-model",
        kind=FILE,
        metavar="FILE",
        env="IMAGE_MODEL",
        setting="images.model",
        help="image model (safetensors or GGUF) to serve beside the text model",
    ),
    _option(
        flags="--image-lora",
        kind=FILES,
        metavar="FILE",
        repeat=True,
        setting="images.engine.model.loras",
        default="none",
        help="LoRA that image requests may use, by its place on the command line; repeatable",
    ),
    _value("--image-max-batch", Whole(minimum=1), "engine.max_batch", "most images of one request"),
    _value("--image-max-height", _size, "engine.max_height", "most pixels of height"),
    _value("--image-max-width", _size, "engine.max_width", "most pixels of width"),
    _value("--image-guidance", _SCALE, "guidance", "distilled guidance", "3.5"),
    _value("--image-strength", SHARE, "strength", "how much of an edited image is repainted", "by model"),
    _option(
        flags="--image-sample-method --image-sampler",
        kind=Words(SAMPLERS),
        metavar="NAME",
        setting="images.sampler",
        default="by model",
        help=f"sampler: {' '.join(SAMPLERS)}",
    ),
    _value(
        "--image-sampling-steps --image-sample-steps",
        Whole(minimum=1, maximum=_MOST_STEPS),
        "steps",
        "sampling steps",
        "by model",
    ),
    _value("--image-cfg-scale", _SCALE, "cfg_scale", "classifier-free guidance; 1 = off", "by model"),
    _value("--image-slg-scale", _SCALE, "slg_scale", "skip-layer guidance; 0 = off"),
    _option(
        flags="--image-slg-skip-layer",
        kind=Form(f"layer numbers up to {forms.LAYER_MAX} by semicolon", forms.layer_list),
        metavar="N;...",
        repeat=True,
        setting="images.slg_layers",
        default="7;8;9",
        help="layers to skip; the first use clears the defaults; repeatable",
    ),
    _value("--image-slg-start", SHARE, "slg_start", "share of the steps after which it begins"),
    _value("--image-slg-end", SHARE, "slg_end", "share of the steps after which it ends"),
    _option(
        flags="--image-schedule-method --image-schedule",
        kind=Words(SCHEDULES),
        metavar="NAME",
        setting="images.schedule",
        default="discrete",
        help=f"schedule: {' '.join(SCHEDULES)}",
    ),
    _option(
        flags="--image-no-text-encoder-model-offload",
        setting="images.engine.model.keep_text_encoder_on_cpu",
        help="text encoder in main memory",
    ),
    _option(
        flags="--image-no-vae-model-offload", setting="images.engine.model.keep_vae_on_cpu", help="VAE in main memory"
    ),
    _option(
        flags="--image-no-control-net-model-offload",
        setting="images.engine.model.keep_control_net_on_cpu",
        help="ControlNet in main memory",
    ),
    _model("--image-clip-l-model", "clip_l", "CLIP-L text encoder"),
    _model("--image-clip-g-model", "clip_g", "CLIP-G text encoder"),
    _model("--image-t5xxl-model", "t5xxl", "T5-XXL text encoder"),
    _model("--image-llm-model", "llm", "language model as text encoder"),
    _model("--image-vae-model", "vae", "VAE"),
    _option(
        flags="--image-vae-tiling",
        off="--image-no-vae-tiling",
        kind=Switch(),
        setting="images.vae_tiling",
        default="off",
        help="decode in tiles: less memory",
    ),
    _model("--image-taesd-model", "taesd", "TAESD, a small VAE: used where no VAE is given, and for previews"),
    _option(
        flags="--image-upscale-model",
        kind=FILE,
        metavar="FILE",
        setting="images.upscale_model",
        help="upscaler (ESRGAN as safetensors or GGUF)",
    ),
    _value("--image-upscale-repeats", Whole(minimum=1, maximum=8), "upscale_repeats", "how often to upscale"),
    _model("--image-control-net-model", "control_net", "ControlNet"),
    _value("--image-control-strength", SHARE, "control_strength", "its strength"),
    _option(flags="--image-control-canny", setting="images.control_canny", help="find the edges of the control image"),
    _option(
        flags="--image-free-compute-memory-immediately",
        help="accepted, no effect: the image library of today always gives it back after an image",
    ),
    _value(
        "--image-niceness",
        Whole(minimum=0, maximum=_MOST_NICENESS),
        "engine.niceness",
        "how far images stand back behind text for the processor (Linux); 0 = equal",
    ),
)
