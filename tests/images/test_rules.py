"""Every input that would kill the process, and every one that would be ignored, is refused with its parameter."""

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.image.families import Family, kind_of
from engine.image.prompt_rules import MOST_BYTES, check_prompt, clean_prompt, is_float
from engine.image.requests import UpscaleRequest
from engine.image.rules import MOST_STEPS, check_request, default_params
from engine.native.sd.image import LoraUse, Mask, RgbImage
from engine.native.sd.options import Sampler, Schedule
from tests.images.asking import ask, gradient
from tests.images.fake_backend import INFO

PLAIN = attrs.evolve(INFO, loras=(), has_control_net=False, upscale_factor=0)
SD2 = attrs.evolve(PLAIN, version="SD 2.x", kind=kind_of("SD 2.x"))
SD1 = attrs.evolve(PLAIN, version="SD 1.x", kind=kind_of("SD 1.x"))
NAN, INF = math.nan, math.inf


def odd(**fields: object) -> RgbImage:
    image = gradient()
    for name, value in fields.items():
        object.__setattr__(image, name, value)
    return image


REFUSED = [
    *[("size", {"width": value}) for value in (0, -64, 32, 65, 1088, 10**9)],
    *[("size", {"height": value}) for value in (0, -64, 2**31, 100)],
    *[("sampling_steps", {"steps": value}) for value in (0, -1, MOST_STEPS + 1)],
    *[("seed", {"seed": value}) for value in (-1, 2**63, 2**64)],
    *[("n", {"n": value}) for value in (0, -1, 5)],
    *[("sample_method", {"sampler": value}) for value in (99, "euler")],
    *[("schedule", {"schedule": value}) for value in (99, "karras")],
    ("schedule", {"schedule": Schedule.GITS, "steps": 1}),
    ("schedule", {"schedule": Schedule.KARRAS, "steps": 1}),
    ("schedule", {"schedule": Schedule.EXPONENTIAL, "steps": 1}),
    ("schedule", {"schedule": Schedule.AYS}),
    *[("strength", {"strength": value}) for value in (NAN, INF, -0.1, 1.1)],
    *[("cfg_scale", {"cfg_scale": value}) for value in (NAN, INF, -INF, -1, 1e39)],
    *[("guidance", {"guidance": value}) for value in (NAN, INF, -1, 1e39)],
    *[("slg_scale", {"slg_scale": value}) for value in (NAN, INF, -1)],
    *[("slg_start", {"slg_start": value}) for value in (NAN, -0.1, 2)],
    *[("slg_end", {"slg_end": value}) for value in (NAN, -0.1, 2)],
    ("slg_skip_layers", {"slg_scale": 2.0, "slg_layers": ()}),
    ("slg_skip_layers", {"slg_scale": 2.0, "slg_layers": (-1,)}),
    ("slg_skip_layers", {"slg_scale": 2.0, "slg_layers": (7,) * 257}),
    *[("control_strength", {"control_strength": value}) for value in (NAN, INF, -1)],
    *[("prompt", {"prompt": text}) for text in ("x" * 8001, "\N{GRINNING FACE}" * 2001, "a\0b")],
    *[("prompt", {"prompt": f"({'(' * depth}a:{weight})"}) for depth in (0, 9) for weight in (".", "9" * 60)],
    *[("prompt", {"prompt": text}) for text in ("tag \U000e0041", "private \U000a0000", "lone \ud800")],
    ("negative_prompt", {"negative_prompt": "(a:..)"}),
    ("image", {"init_image": odd(channels=4)}),
    ("image", {"init_image": odd(width=0)}),
    ("image", {"init_image": odd(height=65)}),
    ("image", {"init_image": odd(width=0, height=0, data=b"")}),
    ("mask", {"init_image": gradient(), "mask": gradient()}),
    ("mask", {"mask": Mask(width=1, height=1, data=b"x")}),
    ("control", {"control_image": odd(channels=1)}),
    ("control_canny", {"canny": True}),
    ("lora", {"loras": (LoraUse(path="unknown.safetensors"),)}),
    *[("lora", {"loras": (LoraUse(path="a.safetensors", scale=value),)}) for value in (NAN, INF, -INF, 1e39)],
    ("lora", {"loras": (LoraUse(path="a.safetensors"), LoraUse(path="a.safetensors"))}),
    *[("upscale_repeats", {"upscale_repeats": value}) for value in (-1, 9)],
    ("upscale_repeats", {"width": 1024, "height": 1024, "upscale_repeats": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("param", "fields"), REFUSED)
def test_what_would_kill_the_process_is_refused(param: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(ask("a", **fields), INFO)
    assert caught.value.param == param
    assert str(caught.value)


@pytest.mark.parametrize(
    ("param", "info", "fields"),
    [
        ("control", PLAIN, {"control_image": gradient()}),
        ("upscale_repeats", PLAIN, {"upscale_repeats": 1}),
        ("slg_scale", SD1, {"slg_scale": 1.0}),
        ("schedule", SD2, {"schedule": Schedule.AYS}),
    ],
)
def test_what_the_model_cannot_do_is_refused(param: str, info: object, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(ask("a", **fields), info)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"width": 1024, "height": 64, "n": 4, "seed": 2**63 - 4},
        {"schedule": Schedule.GITS, "steps": 2},
        {"strength": 0.0, "init_image": gradient(), "mask": Mask(width=2, height=2, data=b"\0\xff\xff\0")},
        {"slg_scale": 2.0, "slg_layers": (0, 255)},
        {"control_image": gradient(), "canny": True, "control_strength": 0.0},
        {"loras": (LoraUse(path="a.safetensors", scale=-1.5), LoraUse(path="b.safetensors", scale=0))},
        {"upscale_repeats": 3},
        {"prompt": "x" * MOST_BYTES},
        {"prompt": "ten past 12:.) and (a:0.5) [b] \\(c:x\\) (((d:1.1):1.2)) )))"},
        {"sampler": Sampler.TCD, "schedule": Schedule.DEFAULT, "steps": MOST_STEPS},
    ],
)
def test_what_is_sound_passes(fields: dict[str, object]) -> None:
    check_request(ask("a", **fields), INFO)


def test_ays_passes_where_it_has_tables() -> None:
    check_request(ask("a", schedule=Schedule.AYS), SD1)


@pytest.mark.parametrize("repeats", [0, -1, 9])
def test_an_upscaling_is_checked_too(repeats: int) -> None:
    with pytest.raises(InvalidRequest):
        check_request(UpscaleRequest(id="a", image=gradient(), repeats=repeats), INFO)
    with pytest.raises(InvalidRequest):
        check_request(UpscaleRequest(id="a", image=gradient()), PLAIN)
    check_request(UpscaleRequest(id="a", image=gradient()), INFO)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", True), ("1.5", True), ("+.5", True), ("-2.", True), ("0", True), ("1.2.3", True), ("0.0", True),
        (".", False), ("..5", False), ("+", False), ("-.", False), ("9" * 39, False), ("0." + "0" * 50 + "1", False),
        ("9" * 400, False),
    ],
)  # fmt: skip
def test_which_weights_the_library_reads(text: str, number: bool) -> None:  # noqa: FBT001, RUF100
    assert is_float(text) is number


@pytest.mark.parametrize("text", ["a :.)", "(a) :.)", "\\(a:.)", "(a)) b:.)"])
def test_a_weight_outside_brackets_is_text(text: str) -> None:
    check_prompt(text, "prompt")


@given(st.text())
def test_a_cleaned_prompt_has_only_characters_that_tokenizers_know(text: str) -> None:
    cleaned = clean_prompt(text)
    assert len(cleaned) == len(text)
    check_prompt(cleaned.replace("\0", "").replace(":", ""), "prompt")


def test_cleaning_changes_nothing_else() -> None:
    assert clean_prompt("caf\u00e9 \N{GRINNING FACE} \U000e0041!") == "caf\u00e9 \N{GRINNING FACE} \ufffd!"


@pytest.mark.parametrize(
    ("version", "family", "sampler", "steps", "cfg_scale", "strength", "size"),
    [
        ("SD 1.x", Family.SD1, Sampler.EULER_A, 20, 9.0, 0.75, 512),
        ("SD 2.x Inpaint", Family.SD2, Sampler.EULER_A, 50, 9.0, 1.0, 512),
        ("SDXL", Family.SDXL, Sampler.EULER, 25, 5.0, 0.75, 1024),
        ("SD3.x", Family.SD3, Sampler.EULER, 20, 4.5, 0.75, 1024),
        ("Flux", Family.FLUX, Sampler.EULER, 20, 1.0, 0.75, 1024),
        ("Flux Fill", Family.FLUX, Sampler.EULER, 50, 3.5, 1.0, 1024),
        ("Ovis Image", Family.OTHER, Sampler.EULER_A, 20, 4.5, 0.75, 1024),
        ("", Family.OTHER, Sampler.EULER_A, 20, 4.5, 0.75, 1024),
    ],
)
def test_defaults_by_family(
    version: str, family: Family, sampler: Sampler, steps: int, cfg_scale: float, strength: float, size: int
) -> None:
    info = attrs.evolve(INFO, version=version, kind=kind_of(version))
    assert info.kind.family is family
    found = default_params(info, "a cat", 3)
    assert (found.sampler, found.steps, found.cfg_scale, found.strength) == (sampler, steps, cfg_scale, strength)
    assert (found.width, found.height, found.seed) == (size, size, 3)
    small = default_params(attrs.evolve(info, max_width=256), "a cat", 3)
    assert (small.width, small.height) == (256, size)
