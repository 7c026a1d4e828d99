"""What the engine refuses, in the words of who asked: the field that was sent, or the server's flag."""

from collections.abc import Mapping
from typing import Final

from api.errors import ApiError, bad_request
from api.images.fields import SCHEDULE, STEPS, ImageFields
from api.images.job import image_request
from engine.errors import InvalidRequest, ModelLoadError
from engine.image.info import ImageModelInfo
from engine.image.requests import ImageRequest
from engine.image.rules import check_request
from llamabox.settings import ImageSettings

# Parameters of the engine that several fields are names of.
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {"schedule": SCHEDULE, "sampling_steps": STEPS}
# What the command line alone cannot tell to be wrong: the model decides, or another flag.
_FLAGS: Final[Mapping[str | None, str]] = {
    "schedule": "--image-schedule-method",
    "slg_scale": "--image-slg-scale",
    "slg_start": "--image-slg-start",
    "slg_skip_layers": "--image-slg-skip-layer",
    "upscale_repeats": "--image-upscale-repeats",
}


def check_sent(request: ImageRequest, fields: ImageFields, info: ImageModelInfo) -> None:
    """Raises ApiError 400 naming a field that was sent."""
    try:
        check_request(request, info)
    except InvalidRequest as error:
        raise _named(error, fields) from None


def _named(error: InvalidRequest, fields: ImageFields) -> ApiError:
    """The server's own values are possible by themselves, see below: one of what does not go together was sent."""
    params = (error.param, *error.others)
    names = [name for param in params if param is not None for name in _FIELDS.get(param, (param,))]
    return bad_request(error.message, next((name for name in names if _is_sent(fields, name)), error.param))


def _is_sent(fields: ImageFields, name: str) -> bool:
    return getattr(fields, name, None) not in (None, "")


def check_defaults(settings: ImageSettings, info: ImageModelInfo) -> None:
    """What a request gets that says nothing. Raises ModelLoadError naming the flag that does not suit the model."""
    try:
        check_request(image_request("", ImageFields(prompt=""), settings, info), info)
    except InvalidRequest as error:
        raise ModelLoadError(f"{_FLAGS[error.param]}: {error.message}") from None
