"""Which format a template gets."""

from llamabox.chat.analysis.choose import format_of
from llamabox.chat.formats.known import known_format
from llamabox.chat.formats.standard import StandardFormat
from tests.chat.analysis.templates import describe, template
from tests.chat.families import FAMILIES

CALL = "{{- '<c>' + {'name': name, 'arguments': arguments} | tojson + '</c>' -}}"


def test_what_the_analysis_found() -> None:
    source = template(CALL, reasoning="{{- '<think>' + (message.reasoning_content or '') + '</think>' -}}")
    description = describe(source)
    chosen = format_of(source, description)
    assert chosen == StandardFormat(reasoning=description.reasoning, wrapping=None, tools=description.tools)
    assert chosen.call_starts == ("<c>",)


def test_no_tools_if_they_are_never_shown() -> None:
    source = template(CALL, listing="")
    chosen = format_of(source, describe(source))
    assert isinstance(chosen, StandardFormat)
    assert chosen.tools is None


def test_written_by_hand_where_known() -> None:
    (source,) = [family.source for family in FAMILIES if family.name == "gpt-oss"]
    assert type(format_of(source, describe(source))) is type(known_format(source))
