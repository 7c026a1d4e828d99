"""The format of a model's turns: one written by hand where it is known, else what the analysis found."""

from llamabox.chat.analysis.description import Description
from llamabox.chat.formats.base import ChatFormat
from llamabox.chat.formats.known import known_format
from llamabox.chat.formats.standard import StandardFormat


def format_of(source: str, description: Description) -> ChatFormat:
    """The format for a template and its description.

    Without tools if the analysis could not find out how calls are written, or if the template never shows the tools.
    """
    known = known_format(source)
    if known is not None:
        return known
    return StandardFormat(
        reasoning=description.reasoning,
        wrapping=description.wrapping,
        tools=description.tools if description.tools_shown else None,
    )
