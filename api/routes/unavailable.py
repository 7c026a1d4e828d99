"""Routes of the contract that this release knows and does not serve: 501 with the reason, never 404."""

from collections.abc import Awaitable, Callable

from api.errors import not_supported
from api.http import ApiRequest, Response
from llamabox.services import Services


def unavailable(reason: str) -> Callable[[Services, ApiRequest], Awaitable[Response]]:
    """A handler that says why not."""

    async def handler(services: Services, request: ApiRequest) -> Response:
        raise not_supported(reason)

    return handler
