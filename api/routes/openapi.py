"""GET /openapi.json."""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache

import msgspec

from api.http import ApiRequest, Response, raw_response
from api.openapi.document import Described, document
from llamabox.services import Services


def openapi(routes: Callable[[], Sequence[Described]]) -> Callable[[Services, ApiRequest], Awaitable[Response]]:
    """A handler that describes ``routes``, which are asked for at the first request."""

    @cache
    def body(keys: bool) -> bytes:
        return msgspec.json.encode(document(routes(), keys=keys))

    async def handler(services: Services, request: ApiRequest) -> Response:
        """The description of the HTTP interface."""
        return raw_response(body(bool(services.settings.server.api_keys)))

    return handler
