"""Errors as the Messages API tells them."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from api.errors import ApiError, as_api_error
from api.http import ApiRequest, Response, raw_response
from llamabox.services import Services

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}

type Route = Callable[[Services, ApiRequest], Awaitable[Response]]


def envelope(error: ApiError, request_id: str) -> dict[str, Any]:
    """The error object, and what the error adds to it."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    told = {"type": kind, "message": _message(error), **error.extra}
    return {"type": "error", "error": told, "request_id": request_id}


def error_response(error: ApiError, request_id: str) -> Response:
    """The response to a request that failed before it had a status."""
    return raw_response(msgspec.json.encode(envelope(error, request_id)), error.status)


def error_event(error: ApiError, request_id: str) -> bytes:
    """The last event of a stream that cannot go on."""
    return b"event: error\ndata: " + msgspec.json.encode(envelope(error, request_id)) + b"\n\n"


def telling_errors(route: Route) -> Route:
    """``route`` with its errors told in this API's form, and the id of the request where its clients look for it."""

    async def told(services: Services, request: ApiRequest) -> Response:
        try:
            response = await route(services, request)
        except Exception as error:
            response = error_response(as_api_error(error), request.id)
        response.headers["request-id"] = request.id
        return response

    return told


def _message(error: ApiError) -> str:
    """Agents compact their conversation when they read that the prompt is too long, in these words."""
    if error.type == "exceed_context_size_error":
        size, limit = error.extra.get("n_prompt_tokens"), error.extra.get("n_ctx")
        return f"prompt is too long: {size} tokens > {limit} maximum"
    return error.message
