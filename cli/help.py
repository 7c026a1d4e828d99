"""``--help``: every option by section, with its default and its variables."""

import enum
import functools
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from cli.kinds import Switch
from cli.option import Option, Section
from cli.options import OPTIONS
from engine.native.options import ModelOptions
from engine.text.options import EngineOptions
from llamabox.settings import Settings

_INDENT: Final = " " * 8
_USAGE: Final = "usage: llama-box [options]"
_INTRO: Final = (
    "A server for language models, OpenAI-shaped. Options may stand in any order, the last one wins; a flag beats its "
    "environment variable. Boolean variables: 1, true, on, yes and 0, false, off, no."
)


def help_text(width: int) -> str:
    """The whole help, wrapped to ``width`` columns where words allow it."""
    lines = [_USAGE, "", *textwrap.wrap(_INTRO, width)]
    for section in Section:
        lines += ["", f"{section.value}:"]
        for option in OPTIONS:
            if option.section is section:
                lines += _entry(option, width)
    return "\n".join(lines) + "\n"


def default_text(option: Option) -> str:
    """The default as the help shows it; empty where there is none to speak of."""
    if option.default or option.setting is None:
        return option.default
    return _shown(functools.reduce(getattr, option.setting.split("."), _defaults()))


@functools.cache
def _defaults() -> Settings:
    return Settings(engine=EngineOptions(model=ModelOptions(path="")))


def _shown(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _entry(option: Option, width: int) -> Iterator[str]:
    flags = ", ".join((*option.flags, *option.off))
    head = flags if isinstance(option.kind, Switch) else f"{flags} {option.metavar}"
    body = option.help
    if default := default_text(option):
        body += f" (default: {default})"
    if option.env:
        body += f" [{', '.join(option.env)}]"
    wrap = functools.partial(textwrap.wrap, width=width, break_on_hyphens=False, break_long_words=False)
    yield from wrap(head, initial_indent="  ", subsequent_indent="    ")
    yield from wrap(body, initial_indent=_INDENT, subsequent_indent=_INDENT)
