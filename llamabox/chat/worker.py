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


def analyze(source: str, constants: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All about a template, as plain data: the fields of its ``Capabilities`` and of its ``Description``.

    Raises TemplateError if it does not compile, does not write what a user says, or does too much.
    """
    # Here, so that interpreters which only render do not wait for it.
    from llamabox.chat.analysis.analyze import analyze as find_out
    from llamabox.chat.analysis.plain import to_plain

    template = compiled(source)

    def render_one(variables: dict[str, Any]) -> str:
        return template.render({**constants, **variables})

    capabilities = probe(source, render_one)
    description = to_plain(find_out(source, render_one))
    return {"capabilities": attrs.asdict(capabilities.described(description)), "description": description}


def render(source: str, variables: dict[str, Any]) -> str:
    """The text of a template for these variables. Raises TemplateError."""
    return compiled(source).render(variables)
