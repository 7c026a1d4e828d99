"""The tools of a request by the names that the model sees.

Those in namespaces, as Codex sends those of MCP servers, have one name for the model, and two parts for the client.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Given:
    """A tool as the client describes it."""

    tool: Mapping[str, Any]
    namespace: str | None = None

    @property
    def name(self) -> str:
        """What the client calls it."""
        name: str = self.tool["name"]
        return name

    @property
    def is_custom(self) -> bool:
        """Whether it takes text."""
        return bool(self.tool["type"] == "custom")


def joined(namespace: str, name: str) -> str:
    """The name that the model sees."""
    return namespace + name if namespace.endswith("_") else f"{namespace}__{name}"


def by_name(tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Given]:
    """The tools that the model sees, of those that ``api.responses.tools.read_offer`` has taken."""
    found: dict[str, Given] = {}
    for tool in tools or ():
        match tool["type"]:
            case "namespace":
                space = tool["name"]
                found |= {joined(space, inner["name"]): Given(inner, space) for inner in tool["tools"]}
            case "function" | "custom":
                found[tool["name"]] = Given(tool)
    return found
