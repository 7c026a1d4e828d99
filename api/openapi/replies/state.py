"""What the server tells about itself, and errors."""

from typing import Any, Literal

import attrs
from msgspec import UNSET, UnsetType


@attrs.frozen(kw_only=True)
class ErrorObject:
    """``param`` is the field to blame. The two numbers come with type exceed_context_size_error."""

    code: int | str
    message: str
    type: str
    param: str | None
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class Error:
    """Every failure; ``code`` is the HTTP status, or previous_response_not_found."""

    error: ErrorObject


@attrs.frozen(kw_only=True)
class Health:
    status: Literal["ok"]


@attrs.frozen(kw_only=True)
class Model:
    """``meta``: what the model is and can, and the sampling defaults."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["llama-box"]
    meta: dict[str, Any] | None


@attrs.frozen(kw_only=True)
class ModelList:
    object: Literal["list"]
    data: list[Model]


@attrs.frozen(kw_only=True)
class Modalities:
    vision: bool
    audio: bool


@attrs.frozen(kw_only=True)
class DefaultSettings:
    n_ctx: int
    params: dict[str, Any]


@attrs.frozen(kw_only=True)
class ImageLora:
    id: int
    path: str


@attrs.frozen(kw_only=True)
class ImageProps:
    """The image model. ``default_generation_settings`` as ``meta`` of its entry in /v1/models."""

    model_path: str
    model_alias: str
    total_slots: int
    default_generation_settings: dict[str, Any]
    loras: list[ImageLora]
    control_net: bool
    upscale_factor: int


@attrs.frozen(kw_only=True)
class Props:
    """The model, and what a request gets that says nothing.

    ``images``: the image model, where there is one. Where it is the only model the other fields tell of it too, and
    those about text are empty. ``kv_unified``: all slots share one KV cache; false: each has one of its own.
    """

    default_generation_settings: DefaultSettings
    total_slots: int
    bos_token: str
    eos_token: str
    build_info: str
    model_path: str
    model_alias: str
    chat_template: str
    modalities: Modalities
    media_marker: str
    is_sleeping: bool
    kv_unified: bool
    images: ImageProps | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class NextToken:
    """``n_remain`` -1: no limit."""

    has_next_token: bool
    n_decoded: int
    n_remain: int
    stopping_word: str


@attrs.frozen(kw_only=True)
class RunningImage:
    """``index`` of ``n``; ``progress`` in percent; ``steps`` is 0 until the prompt is encoded."""

    index: int
    n: int
    progress: int
    progressed_steps: int
    steps: int
    seed: int
    width: int
    height: int


@attrs.frozen(kw_only=True)
class Slot:
    """``state`` 0 is idle. ``params`` are the settings of the running request, empty when idle.

    The slot of an image model, the last one, has two fields more: ``image``, null when idle, and how many requests
    wait behind the running one. Its fields about text are 0 or empty.
    """

    id: int
    id_task: int | str
    state: Literal[0, 1]
    is_processing: bool
    is_prefilling: bool
    speculative: bool
    n_ctx: int
    n_past: int
    n_prompt_tokens: int
    n_prompt_tokens_cache: int
    params: dict[str, Any]
    next_token: NextToken
    image: RunningImage | UnsetType | None = UNSET
    requests_deferred: int | UnsetType = UNSET
