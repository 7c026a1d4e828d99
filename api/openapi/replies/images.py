"""Replies of the images routes."""

from typing import Literal

import attrs
from msgspec import UNSET, UnsetType


@attrs.frozen(kw_only=True)
class ImageUsage:
    """A generation is a sampling step. Always finite numbers."""

    time_to_process_ms: float
    time_per_generation_ms: float
    generation_per_second: float


@attrs.frozen(kw_only=True)
class ImageObject:
    """An image in base64."""

    index: int
    object: Literal["image"]
    progress: Literal[100]
    b64_json: str
    finish_reason: Literal["stop"]


@attrs.frozen(kw_only=True)
class ImageList:
    """POST /v1/images/generations and /v1/images/edits."""

    created: int
    model: str
    object: Literal["list"]
    data: list[ImageObject]
    usage: ImageUsage


@attrs.frozen(kw_only=True)
class ImageChunk:
    """A step, with a preview where it was asked for; or a finished image (progress 100), or a piece of either.

    Pieces share ``index`` and ``progressed_steps``. ``finish_reason`` comes with an image's last piece.
    """

    index: int
    object: Literal["image.chunk"]
    progress: int
    progressed_steps: int
    b64_json: str | UnsetType = UNSET
    finish_reason: Literal["stop"] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ImagePart:
    """One event of a streamed reply; ``usage`` comes with the last one."""

    created: int
    model: str
    object: Literal["list"]
    data: list[ImageChunk]
    usage: ImageUsage | None
