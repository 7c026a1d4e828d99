"""The jobs that run in sub-interpreters. Nothing imported here may need numpy, msgspec or another such extension."""

from typing import Any

import attrs

from llamabox.chat.capabilities import probe
from llamabox.chat.template import compiled


def warm_up() -> None:
    """Import everything and compile something, so that the first request does not pay for it."""
    compiled("{{ messages[0].content }}").render({"messages": [{"content": ""}]})


def prepare(source: str) -> None:
    """Compile a template. Raises TemplateError."""
    compiled(source)


def inspect(source: str, constants: dict[str, Any]) -> dict[str, bool]:
    """Compile a template and find out its capabilities (the fields of ``Capabilities``). Raises TemplateError."""
    template = compiled(source)
    return attrs.asdict(probe(source, lambda variables: template.render({**constants, **variables})))


def render(source: str, variables: dict[str, Any]) -> str:
    """The text of a template for these variables. Raises TemplateError."""
    return compiled(source).render(variables)
