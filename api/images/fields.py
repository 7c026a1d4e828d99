"""The fields of POST /v1/images/generations, /v1/images/edits and /v1/images/variations. null means absent."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import attrs
import msgspec
from msgspec import Meta

from api.decode import field_error
from api.errors import bad_request
from api.fields import LoraScale, Share
from api.images.brackets import nested
from api.images.unoffered import UnofferedFields

LEAST_CHUNK: Final = 1024
_SEED_MAX: Final = 2**63 - 1
OPTIONS: Final = "stream_options"
ABSENT: Final = frozenset({"", "null"})  # texts of a form that stand for no value
# Fields that a form writes as JSON, the rest is text or a single value.
STRUCTURED: Final = frozenset({"lora", "slg_skip_layers", OPTIONS})
# The names of one thing, in the order in which they count.
SAMPLER: Final = ("sample_method", "sampler")
SCHEDULE: Final = ("schedule_method", "scheduler", "schedule")
STEPS: Final = ("sampling_steps", "sample_steps")

Scale = Annotated[float, Meta(ge=0.0, le=1000.0)]
Steps = Annotated[int, Meta(ge=1, le=1000)]
Layers = Annotated[list[Annotated[int, Meta(ge=0, le=255)]], Meta(min_length=1, max_length=256)]


@attrs.frozen(kw_only=True)
class ImageStreamOptions:
    include_usage: bool | None = None
    chunk_result: bool | None = None
    chunk_size: Annotated[int, Meta(ge=LEAST_CHUNK)] | None = None
    preview: bool | None = None
    preview_faster: bool | None = None


@attrs.frozen(kw_only=True)
class ImageFields(UnofferedFields):
    """None: the flag's or the model's value. Of several names for one thing the first one given counts."""

    prompt: str
    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=1024)] | None = None
    size: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None  # quality of JPEG and WebP
    quality: Literal["standard", "hd", "high", "auto"] | None = None  # auto: as if it were absent
    style: Literal["vivid", "natural"] | None = None
    negative_prompt: str | None = None
    sample_method: str | None = None
    sampler: str | None = None
    sampling_steps: Steps | None = None
    sample_steps: Steps | None = None
    schedule_method: str | None = None
    scheduler: str | None = None
    schedule: str | None = None
    seed: Annotated[int, Meta(ge=-1, le=_SEED_MAX)] | None = None
    guidance: Scale | None = None
    strength: Share | None = None
    cfg_scale: Scale | None = None
    slg_scale: Scale | None = None
    slg_skip_layers: Layers | None = None
    slg_start: Share | None = None
    slg_end: Share | None = None
    control_strength: Scale | None = None
    control_canny: bool | None = None
    upscale_repeats: Annotated[int, Meta(ge=0, le=8)] | None = None
    lora: list[LoraScale] | None = None
    stream: bool | None = None
    stream_options: ImageStreamOptions | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None  # OpenAI's: given, its events are sent


@attrs.frozen(kw_only=True)
class GenerationFields(ImageFields):
    """Pictures are refused: they belong to an edit."""

    image: Any = None
    mask: Any = None
    control: Any = None


@attrs.frozen(kw_only=True)
class EditFields(ImageFields):
    """``image``, ``mask`` and ``control`` are data URLs."""

    image: str | list[str]
    mask: str | None = None
    control: str | None = None


@attrs.frozen(kw_only=True)
class VariationFields(EditFields):
    """An edit that need not say what is to be seen."""

    prompt: str | None = None  # type: ignore[assignment]  # the others need one


def fields_of_form(parts: Iterable[tuple[str, str]], *, prompt: str | None = None) -> ImageFields:
    """A form's fields: "null" and "" mean absent. ``prompt``: what to take where there is none; None: one is needed.

    Raises ApiError 400 naming the field.
    """
    named = {field.name for field in attrs.fields(ImageFields)}
    given: dict[str, Any] = {}
    options: dict[str, Any] = {}
    inside: list[tuple[str, str]] = []
    for name, text in parts:
        if "[" in name:
            inside.append((name, text))
        elif text in ABSENT:
            continue
        elif name in given and name in named:
            raise bad_request(f"{name}: it is given twice", name)
        elif name.startswith(f"{OPTIONS}_"):
            options[name.removeprefix(f"{OPTIONS}_")] = text
        else:
            given[name] = _structured(name, text) if name in STRUCTURED else text
    for name, value in nested(inside).items():
        if name in given and name in named:
            raise bad_request(f"{name}: it is given twice", name)
        given[name] = value
    if prompt is not None:
        given.setdefault("prompt", prompt)
    if options:
        whole = given.get(OPTIONS, {})
        if not isinstance(whole, dict):
            raise bad_request(f"{OPTIONS}: expected an object", OPTIONS)
        given[OPTIONS] = {**whole, **options}
    try:
        return msgspec.convert(given, ImageFields, strict=False)
    except msgspec.ValidationError as error:
        raise field_error(ImageFields, error) from None


def _structured(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise bad_request(f"{name}: {text[:100]!r} is not JSON", name) from None
    except RecursionError:
        raise bad_request(f"{name}: it is nested too deeply", name) from None
