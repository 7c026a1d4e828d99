"""The page at /, its files, and what it asks the server that no other route tells."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

from api.embedding.run import embedding_side, rank_side
from api.errors import ApiError
from api.gate import text_side
from api.http import ApiRequest, Response, json_response, raw_response
from api.images.job import image_side
from api.infill import check_infill_route
from api.page.files import FILES, INDEX
from api.routes.state import check_metrics, check_slots
from llamabox.services import Services

# Nothing but the page's own files and this server; no inline code or style, and text never becomes markup.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept by the browser, but asked about each time: after an update no file meets one of another version.
    "Cache-Control": "no-cache",
}
# Each raises ApiError 501 with the reason where the feature is off.
_FEATURES: Final[Mapping[str, Callable[[Services], Any]]] = {
    "chat": text_side,
    "images": image_side,
    "embeddings": embedding_side,
    "rerank": rank_side,
    "infill": check_infill_route,
    "slots": check_slots,
    "metrics": check_metrics,
}


async def index(services: Services, request: ApiRequest) -> Response:
    """The page."""
    return await _file(request, INDEX)


async def file(services: Services, request: ApiRequest) -> Response:
    """A file of the page. Raises ApiError 404."""
    name = (request.view_args or {}).get("name", "")
    if name == INDEX or name not in FILES:
        raise ApiError(404, "No such route")
    return await _file(request, name)


async def about(services: Services, request: ApiRequest) -> Response:
    """The version, and for each feature why it is off, null where it is on."""
    features = {name: _why_off(check, services) for name, check in _FEATURES.items()}
    return json_response({"version": version("llama-box"), "features": features})


def _why_off(check: Callable[[Services], Any], services: Services) -> str | None:
    try:
        check(services)
    except ApiError as error:
        return error.message
    return None


async def _file(request: ApiRequest, name: str) -> Response:
    found = FILES[name]
    response = raw_response(found.body, content_type=found.media)
    response.headers.update(_HEADERS)
    response.set_etag(found.etag)
    return await response.make_conditional(request)  # type: ignore[return-value]  # the same object
