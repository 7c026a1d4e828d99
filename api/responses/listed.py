"""Input items as they are listed: each with an id, and content in parts."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import attrs
from msgspec import Meta

from api.errors import bad_request

_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


@attrs.frozen(kw_only=True)
class PageQuery:
    """Which of the items, and in which order."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


def listed(given: str | Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of an ``input`` that ``api.responses.items.add_input`` has taken. They mean the same as before."""
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [_item(item) for item in items]


def page(items: list[dict[str, Any]], query: PageQuery) -> dict[str, Any]:
    """A part of the list, the latest first unless the query wants it otherwise. Raises ApiError 400."""
    found = items if query.order == "asc" else items[::-1]
    rest = found if query.after is None else found[_place(found, query.after) + 1 :]
    data = rest[: query.limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(data) < len(rest),
    }


def _item(given: dict[str, Any]) -> dict[str, Any]:
    kind = given.get("type") or "message"
    item_id = given.get("id")
    if not isinstance(item_id, str):
        item_id = f"{_PREFIXES[kind]}_{secrets.token_hex(16)}"
    item = {**given, "id": item_id, "type": kind, "status": given.get("status") or "completed"}
    if kind == "message":
        item["content"] = _parts(given["role"], given["content"])
    return item


def _parts(role: str, content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return content
    if role == "assistant":
        return [{"type": "output_text", "text": content, "annotations": []}]
    return [{"type": "input_text", "text": content}]


def _place(items: list[dict[str, Any]], item_id: str) -> int:
    """The last one with this id: clients may have given two the same, and a list must come to its end."""
    for index in reversed(range(len(items))):
        if items[index]["id"] == item_id:
            return index
    raise bad_request(f"after: there is no item {item_id!r}", "after")
