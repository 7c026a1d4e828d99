"""The application class and its request: one connection task, one nursery, one line in the access log a request."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec
import trio
from hypercorn.typing import ASGISendCallable, ASGISendEvent
from quart import request as current
from quart.utils import encode_headers
from quart.wrappers import Request
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest, TrioResponse

from api.connection import WIRE, Connection
from api.page.files import FOLDER
from llamabox.logs import request_id
from llamabox.services import Services

CLIENT_CLOSED: Final = 499  # only in logs and metrics: the client left before it had an answer

_access = logging.getLogger("api.access")
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TRAILERS: Final = "http.response.trailers"

Response = TrioResponse

# Asked every few seconds by machines and by the page, or many at once: not worth a line each.
_PROBED: Final = frozenset({"/health", "/v1/health", "/metrics", "/slots"})


class ApiRequest(TrioRequest):
    """A request that knows its id, its task's nursery and what is to be logged about it."""

    nursery: trio.Nursery  # ends with the response or with the client

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.uid = uuid.uuid4().hex
        given = self.headers.get("X-Request-Id", "")
        self.id = given if _SANE_ID.fullmatch(given) else self.uid
        self.tokens: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)  # (prompt, cached, generated) so far
        self.trailers: Callable[[], Mapping[str, str]] | None = None  # what is known only when a stream has ended

    @property
    def route(self) -> str:
        """The rule that matched: few values, fit for a metric's label."""
        return self.url_rule.rule if self.url_rule is not None else "unmatched"


class _Exchange:
    """Watches what goes out, and adds the trailers where the protocol has them (HTTP/2 does, HTTP/1.1 does not)."""

    def __init__(self, request: ApiRequest, send: ASGISendCallable) -> None:
        self._request = request
        self._send = send
        self.status = CLIENT_CLOSED
        self.complete = False

    async def send(self, message: ASGISendEvent) -> None:
        trailers = self._request.trailers if _TRAILERS in self._request.scope["extensions"] else None
        outgoing = cast("dict[str, Any]", message)
        if outgoing["type"] == "http.response.start":
            self.status = outgoing["status"]
            wire = self._request.scope.get("state", {}).get(WIRE)  # an optional part of ASGI
            if wire is not None and wire.is_receiving:
                outgoing["headers"] = [*outgoing["headers"], (b"connection", b"close")]
            if trailers is not None:
                outgoing["trailers"] = True
        last = outgoing["type"] == "http.response.body" and not outgoing.get("more_body", False)
        # Noted before it is sent: Hypercorn ends the request's task while it sends the last part.
        self.complete = last
        await self._send(message)
        if last and trailers is not None:
            headers = [(name.lower().encode(), value.encode()) for name, value in trailers().items()]
            await self._send({"type": "http.response.trailers", "headers": headers, "more_trailers": False})


class _Connection(TrioASGIHTTPConnection):
    async def _send_response(self, send: ASGISendCallable, response: Any) -> None:
        """A whole reply is sent in one part, and over HTTP/1.1 in one piece with its head; a stream chunk by chunk."""
        body = response.response
        wire = self.scope.get("state", {}).get(WIRE)  # an optional part of ASGI
        if not isinstance(body, DataBody):
            if wire is not None and self._is_chunked(response):
                await self._send_chunks(send, response, wire)
            else:
                await super()._send_response(send, response)
            return
        if wire is not None and self.scope["http_version"].startswith("1"):
            wire.hold()
        headers = encode_headers(response.headers)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body.data[body.begin : body.end], "more_body": False})

    def _is_chunked(self, response: Any) -> bool:
        """Whether h11 writes the body in chunks: HTTP/1.1, and no length is known."""
        method, version = self.scope["method"], self.scope["http_version"]
        return (
            version == "1.1"
            and method != "HEAD"
            and response.status_code == 200
            and "Content-Length" not in response.headers
        )

    async def _send_chunks(self, send: ASGISendCallable, response: Any, wire: Connection) -> None:
        """Past Hypercorn and h11, which have nothing to do for a part of a body; head and end go through them."""
        headers = encode_headers(response.headers)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        async with response.response as parts:
            async for data in parts:
                await wire.send_chunk(data)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def handle_request(self, nursery: trio.Nursery, request: Request, send: ASGISendCallable) -> None:  # type: ignore[override]
        assert isinstance(request, ApiRequest), "the application creates no other requests"
        started = time.perf_counter()
        request.nursery = nursery
        request_id.set(request.id)
        exchange = _Exchange(request, send)
        try:
            await super().handle_request(nursery, request, exchange.send)
        finally:
            self._log(request, exchange, time.perf_counter() - started)

    def _log(self, request: ApiRequest, exchange: _Exchange, seconds: float) -> None:
        app = cast("ApiApp", self.app)
        app.services.metrics.count_request(request.route, exchange.status, seconds)
        prompt, cached, generated = request.tokens()
        facts = {
            "method": request.method,
            "route": request.route,
            "status": exchange.status,
            "duration_ms": round(seconds * 1e3, 1),
            "prompt_tokens": prompt,
            "cached_tokens": cached,
            "completion_tokens": generated,
        }
        quiet = request.path in _PROBED or request.path.startswith(FOLDER)
        level = logging.DEBUG if quiet and exchange.status < 400 else logging.INFO
        _access.log(level, "served" if exchange.complete else "client gone", extra=facts)


class ApiApp(QuartTrio):
    """Quart with our request, our connection, and what the handlers may use."""

    request_class = ApiRequest
    asgi_http_class = _Connection
    services: Services


def current_request() -> ApiRequest:
    """The request that this task serves."""
    return cast("ApiRequest", current._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001


def json_response(body: object, status: int = 200) -> Response:
    """``body`` as JSON."""
    return raw_response(msgspec.json.encode(body), status)


def raw_response(body: bytes, status: int = 200, content_type: str = "application/json; charset=utf-8") -> Response:
    """Bytes that are encoded already."""
    return Response(body, status, content_type=content_type)
