"""The application: routes, what stands before them, and what every response wears."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from werkzeug.exceptions import HTTPException

from api.anthropic.errors import error_response
from api.errors import ApiError, as_api_error
from api.gate import check_encoding, check_key, check_phase, dress, preflight, speaks_anthropic
from api.http import ApiApp, Response, current_request, raw_response
from api.page.files import PUBLIC
from api.routes.table import PAGE, ROUTES, Handler
from llamabox.services import Services


def create_app(services: Services) -> ApiApp:
    """The ASGI application over ``services``. Run it under Hypercorn's Trio worker, its own server header off."""
    app = ApiApp(__name__, static_folder=None)
    app.services = services
    app.config["MAX_CONTENT_LENGTH"] = services.settings.server.max_body
    app.config["BODY_TIMEOUT"] = services.settings.server.timeout
    app.config["RESPONSE_TIMEOUT"] = None  # a generation takes as long as it takes
    app.before_request(_before(services))
    app.after_request(_after(services))
    app.register_error_handler(Exception, _on_error)
    app.url_map.merge_slashes = (
        False  # a redirect, an HTML page, would name the scheme that a proxy in front has hidden
    )
    for route in ROUTES + PAGE if services.settings.server.ui else ROUTES:
        for path in route.paths:
            app.add_url_rule(path, f"{route.method} {path}", _view(services, route.handler), methods=[route.method])
    return app


def _view(services: Services, handler: Handler) -> Callable[..., Awaitable[Response]]:
    async def view(**_: Any) -> Response:
        return await handler(services, current_request())

    return view


def _before(services: Services) -> Callable[[], Awaitable[Response | None]]:
    server = services.settings.server
    public = PUBLIC if server.ui else frozenset()

    async def before() -> Response | None:
        request = current_request()
        if request.path not in public:  # the page says itself what is missing: a key, or a model that still loads
            check_key(request, server.api_keys)
            check_phase(request, services.phase)
        check_encoding(request)
        return preflight(request, server.cors_origins)

    return before


def _after(services: Services) -> Callable[[Any], Awaitable[Any]]:
    number, origins = version("llama-box"), services.settings.server.cors_origins

    async def after(response: Any) -> Any:
        return dress(current_request(), response, number, origins)

    return after


async def _on_error(error: Exception) -> Response:
    told: ApiError = as_api_error(error)
    request = current_request()
    response = error_response(told, request.id) if speaks_anthropic(request) else raw_response(told.body(), told.status)
    if isinstance(error, HTTPException) and told.status == 405:
        response.headers["Allow"] = ", ".join(getattr(error, "valid_methods", None) or ())
    if told.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
