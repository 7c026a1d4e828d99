"""Functions in namespaces, as Codex sends those of MCP servers: the model sees one name, the client's has two parts."""

from collections.abc import Mapping, Sequence
from typing import Any

type Parts = tuple[str, str]  # namespace, name


def joined(namespace: str, name: str) -> str:
    """The name that the model sees."""
    return namespace + name if namespace.endswith("_") else f"{namespace}__{name}"


def parts_of(tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Parts]:
    """The parts of the names that the model sees, for tools that ``api.responses.tools.read_offer`` has taken."""
    return {
        joined(space["name"], tool["name"]): (space["name"], tool["name"])
        for space in tools or ()
        if space["type"] == "namespace"
        for tool in space["tools"]
    }
