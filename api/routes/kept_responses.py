"""/v1/responses/ID: what is kept of a response."""

from typing import Final

import attrs

from api.decode import read_query
from api.errors import ApiError, bad_request
from api.http import ApiRequest, Response, json_response
from api.responses.keep import decoded, response_of
from api.responses.listed import PageQuery, page
from llamabox.response_store import Kept
from llamabox.services import Services

_STREAM: Final = "stream: a response is streamed only while it is made"


@attrs.frozen(kw_only=True)
class RetrieveQuery:
    stream: bool = False


async def retrieve(services: Services, request: ApiRequest) -> Response:
    """The response object."""
    if read_query(request, RetrieveQuery).stream:
        raise bad_request(_STREAM, "stream")
    return json_response(response_of(_kept(services, request)))


async def delete(services: Services, request: ApiRequest) -> Response:
    """Forget the response. Those that go on from it stay as they are."""
    if not services.responses.delete(_id(request)):
        raise _unknown(request)
    return json_response({"id": _id(request), "object": "response", "deleted": True})


async def input_items(services: Services, request: ApiRequest) -> Response:
    """All that the model was told before it answered, page by page."""
    query = read_query(request, PageQuery)
    return json_response(page(decoded(_kept(services, request).turn.input), query))


async def cancel(services: Services, request: ApiRequest) -> Response:
    """Refused: what is kept has ended."""
    _kept(services, request)
    raise bad_request("Only a response that is made in the background can be cancelled, and there are none here.")


def _id(request: ApiRequest) -> str:
    return str((request.view_args or {})["response_id"])


def _kept(services: Services, request: ApiRequest) -> Kept:
    kept = services.responses.get(_id(request))
    if kept is None:
        raise _unknown(request)
    return kept


def _unknown(request: ApiRequest) -> ApiError:
    return ApiError(404, f"Response with id {_id(request)!r} not found.", type="invalid_request_error")
