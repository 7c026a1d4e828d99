"""Ids of tool calls: clients know them by their prefix, templates as the model wrote them."""

from typing import Final

_PREFIX: Final = "toolu_"


def outgoing(call_id: str) -> str:
    """The id of a call in a reply."""
    return _PREFIX + call_id


def incoming(call_id: str) -> str:
    """The id of a call in a request: what was put before it is taken off again."""
    return call_id.removeprefix(_PREFIX)
