"""What happens to every request before its route and to every response after it."""

import hmac
from collections.abc import Sequence
from typing import Final

from quart.wrappers import Request

from api.errors import ApiError, bad_request, not_supported
from api.http import ApiRequest, Response
from engine.bridge import TextEngine
from llamabox.services import Phase, Prompts, Services

_FREE: Final = frozenset({"/health", "/v1/health"})
_REFUSALS: Final = {
    Phase.LOADING: "Loading model",
    Phase.STOPPING: "The server is stopping",
    Phase.FAILED: "The model is not available",
}
# Characters of a model's name that is not known here. Each event of a stream repeats it, so that a request of some KB
# could ask for GBs. Names of files, which models go by, have at most 255 bytes.
MAX_MODEL_NAME: Final = 256
_MESSAGES: Final = "/v1/messages"
_KEY_HEADER: Final = "X-Api-Key"
_METHODS: Final = "GET, POST, DELETE, OPTIONS"
_EXPOSED: Final = "X-Request-ID, X-Response-Tokens-Per-Second"


def check_key(request: Request, keys: Sequence[str]) -> None:
    """Raises ApiError 401 unless the request may pass. Takes as long for a near miss as for a far one."""
    if not keys or request.path in _FREE or request.method == "OPTIONS":
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = request.headers.get(_KEY_HEADER, "") if speaks_anthropic(request) else ""
    matches = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]
    if not any(matches):
        raise ApiError(401, "Invalid API Key")


def speaks_anthropic(request: Request) -> bool:
    """Whether the request is to the Messages API, whose clients send keys and read errors in a form of their own."""
    return request.path == _MESSAGES or request.path.startswith(f"{_MESSAGES}/")


def check_phase(request: Request, phase: Phase) -> None:
    """Raises ApiError 503 while the server cannot answer."""
    if phase is not Phase.READY and request.method != "OPTIONS":
        raise ApiError(503, _REFUSALS[phase])


def check_encoding(request: Request) -> None:
    """Raises ApiError 415 for a compressed body, which would be read as it is."""
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in {"", "identity"}:
        raise ApiError(415, f"Content-Encoding: bodies are read as they are, not as {encoding}")


def text_side(services: Services) -> tuple[TextEngine, Prompts]:
    """The text engine and what prepares its prompts. Raises ApiError 501 where no text model is loaded."""
    if services.text is None or services.prompts is None:
        raise not_supported("The loaded model generates no text")
    if services.text.info.no_generation is not None:
        raise not_supported(f"The loaded model generates no text: {services.text.info.no_generation}")
    return services.text, services.prompts


def token_side(services: Services) -> tuple[TextEngine, Prompts]:
    """The same, also for a model that has a tokenizer but generates nothing."""
    if services.text is None or services.prompts is None:
        raise not_supported("The loaded model has no tokenizer")
    return services.text, services.prompts


def model_name(services: Services, asked: str | None) -> str:
    """The name of the text model to echo. Raises ApiError 404 for one that cannot be meant, 400 for one too long."""
    return _chosen(asked, services.model_ids, services.image_ids)


def image_model_name(services: Services, asked: str | None) -> str:
    """The same for the image model."""
    return _chosen(asked, services.image_ids, services.model_ids)


def _chosen(asked: str | None, own: Sequence[str], others: Sequence[str]) -> str:
    """Clients have names of their own for a single model, so any is taken but that of the other kind's model."""
    if asked is None or asked in own:
        return own[0] if asked is None else asked
    if len(asked) > MAX_MODEL_NAME:
        raise bad_request(f"model: the name has {len(asked)} characters, at most {MAX_MODEL_NAME} are taken", "model")
    if asked in others:
        raise ApiError(404, f"The model {asked!r} does not serve this route, {own[0]!r} does", "model")
    if len(own) > 1:
        raise ApiError(404, f"The model {asked!r} does not exist", "model")
    return asked


def preflight(request: Request, origins: Sequence[str]) -> Response | None:
    """The answer to a browser that asks before it sends; None for everything else."""
    if request.method != "OPTIONS" or not _allowed(request, origins):
        return None
    wanted = request.headers.get("Access-Control-Request-Headers", "Authorization, Content-Type")
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": wanted,
        "Access-Control-Max-Age": "600",
    }
    return Response(b"", 204, headers)


def dress(request: ApiRequest, response: Response, version: str, origins: Sequence[str]) -> Response:
    """The headers that every response has."""
    response.headers["Server"] = f"llama-box/{version}"
    response.headers["X-Request-ID"] = request.id
    if origins:
        response.headers.add("Vary", "Origin")
    if _allowed(request, origins):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    return response


def _allowed(request: Request, origins: Sequence[str]) -> bool:
    origin = request.headers.get("Origin")
    return origin is not None and ("*" in origins or origin in origins)
