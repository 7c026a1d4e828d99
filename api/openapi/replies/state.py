"""What the server tells about itself, and errors."""

from typing import Any, Literal

import attrs
from msgspec import UNSET, UnsetType


@attrs.frozen(kw_only=True)
class ErrorObject:
    """``param`` is the field to blame. The two numbers come with type exceed_context_size_error."""

    code: int
    message: str
    type: str
    param: str | None
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class Error:
    """Every failure; ``code`` is the HTTP status."""

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
class Props:
    """The model, and what a request gets that says nothing."""

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


@attrs.frozen(kw_only=True)
class NextToken:
    """``n_remain`` -1: no limit."""

    has_next_token: bool
    n_decoded: int
    n_remain: int
    stopping_word: str


@attrs.frozen(kw_only=True)
class Slot:
    """``state`` 0 is idle. ``params`` are the settings of the running request, empty when idle."""

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
