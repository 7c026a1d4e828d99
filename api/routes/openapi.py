"""GET /openapi.json."""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import trio

from api.http import ApiRequest, Response, raw_response
from llamabox.services import Services

if TYPE_CHECKING:
    from api.openapi.document import Described


def openapi(routes: Callable[[], Sequence["Described"]]) -> Callable[[Services, ApiRequest], Awaitable[Response]]:
    """A handler that describes ``routes``, which are asked for at the first request."""

    @cache
    def body(keys: bool) -> bytes:
        # Imported late: few ask, and every start would pay for it.
        from api.openapi.document import document

        return msgspec.json.encode(document(routes(), keys=keys))

    async def handler(services: Services, request: ApiRequest) -> Response:
        """The description of the HTTP interface."""
        return raw_response(await trio.to_thread.run_sync(body, bool(services.settings.server.api_keys)))

    return handler
