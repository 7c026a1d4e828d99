"""What is kept of a response, and what goes on from it."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from api.errors import ApiError, bad_request
from api.responses.listed import listed
from api.responses.shapes import ResponsesFields
from llamabox.response_store import Kept, ResponseStore, Turn

type Response = dict[str, Any]
type Keep = Callable[[Response], Response]


def last_turn(store: ResponseStore, response_id: str | None) -> Turn | None:
    """Where the conversation goes on, None for a new one. Raises ApiError 400 for a response that is not kept."""
    if response_id is None:
        return None
    kept = store.get(response_id)
    if kept is None:
        extra = {"code": "previous_response_not_found"}
        message = f"Previous response with id {response_id!r} not found."
        raise ApiError(400, message, "previous_response_id", extra=extra)
    return kept.turn


def resolved(store: ResponseStore, given: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """An ``input`` with what was answered in place of references to it. Raises ApiError for what is not kept."""
    if isinstance(given, str):
        return given
    return [_referred(store, item, f"input[{index}]") if _refers(item) else item for index, item in enumerate(given)]


def _refers(item: dict[str, Any]) -> bool:
    return item.get("type") == "item_reference" or item.keys() == {"id"}


def _referred(store: ResponseStore, item: dict[str, Any], where: str) -> dict[str, Any]:
    item_id = item.get("id")
    if not isinstance(item_id, str):
        raise bad_request(f"{where}.id: expected text", f"{where}.id")
    found = store.item(item_id)
    if found is None:
        message = f"{where}: Item with id {item_id!r} not found. Items of responses with store: false are not kept."
        raise ApiError(404, message, where, type="invalid_request_error")
    result: dict[str, Any] = msgspec.json.decode(found)
    return result


def items_of(turn: Turn | None) -> list[dict[str, Any]]:
    """The conversation up to ``turn``, as input items."""
    return decoded(() if turn is None else turn.items)


def keeping(store: ResponseStore, fields: ResponsesFields, before: Turn | None) -> Keep:
    """What keeps the response to ``fields`` when it has ended, and gives it back."""
    if not fields.is_kept:
        return as_it_is
    given = [msgspec.json.encode(item) for item in listed(fields.input)]

    def keep(response: Response) -> Response:
        answer = [msgspec.json.encode(item) for item in response["output"]]
        head = msgspec.json.encode({**response, "output": []})
        ids = [item["id"] for item in response["output"]]
        store.keep(response["id"], Kept(head, Turn(before, given, answer, ids)))
        return response

    return keep


def as_it_is(response: Response) -> Response:
    """Keeps nothing."""
    return response


def response_of(kept: Kept) -> Response:
    """The response object."""
    return {**msgspec.json.decode(kept.head), "output": decoded(kept.turn.answer)}


def decoded(items: Sequence[bytes]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(item) for item in items]
