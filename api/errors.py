"""One table from what can go wrong to what the client is told."""

import logging
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec
from werkzeug.exceptions import HTTPException

from engine.errors import ContextExceeded, EngineUnavailable, InvalidRequest, StorageError
from llamabox.chat.errors import TemplateError

_log = logging.getLogger("api.errors")

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


@attrs.frozen(slots=False, eq=False)
class ApiError(Exception):
    """An answer that is no success. ``type`` "" is the status's usual one; ``extra`` joins the error object."""

    status: int
    message: str
    param: str | None = None
    type: str = ""
    extra: Mapping[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.message

    def envelope(self) -> dict[str, Any]:
        """The error object: code, message, type, param and what the error adds."""
        kind = self.type or _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"code": self.status, "message": self.message, "type": kind, "param": self.param, **self.extra}

    def body(self) -> bytes:
        """The response body."""
        return msgspec.json.encode({"error": self.envelope()})


def bad_request(message: str, param: str | None = None) -> ApiError:
    """The client's mistake, in the field ``param``."""
    return ApiError(400, message, param)


def not_supported(message: str, param: str | None = None) -> ApiError:
    """Understood, but this server or model cannot do it."""
    return ApiError(501, message, param)


def as_api_error(error: BaseException) -> ApiError:
    """What the client is told. What no row of the table knows is logged here and becomes a bare 500."""
    match error:
        case ApiError():
            return error
        case ContextExceeded(n_prompt_tokens=prompt, n_ctx=n_ctx):
            extra = {"n_prompt_tokens": prompt, "n_ctx": n_ctx}
            return ApiError(400, str(error), "prompt", "exceed_context_size_error", extra)
        case InvalidRequest(message=message, param=param):
            return ApiError(400, message, param)
        case TemplateError():
            return ApiError(400, str(error), "messages")
        case ExceptionGroup(exceptions=(only,)):
            return as_api_error(only)
        case EngineUnavailable():
            return ApiError(503, str(error) or "The engine is not available")
        case StorageError():
            _log.error("%s", error)
            return ApiError(500, str(error))
        case HTTPException(code=int() as code):
            return ApiError(code, _http_message(error))
        case _:
            _log.error("unexpected error", exc_info=error)
            return ApiError(500, "Internal server error")


def _http_message(error: HTTPException) -> str:
    match error.code:
        case 404:
            return "No such route"
        case 405:
            return "Method not allowed on this route"
        case 408:
            return "The request body did not arrive in time"
        case 413:
            return "The request body is too large"
        case 500:
            return "Internal server error"
        case _:
            return error.name
