"""docs/options.md: every option of the table, by section."""

from collections.abc import Iterator, Sequence
from typing import Final

from cli.help import default_text
from cli.kinds import FALSE_WORDS, TRUE_WORDS, Switch
from cli.option import Option, Section
from cli.options import OPTIONS

_HEAD: Final = f"""\
# Options

Generated from the option table by `python -m tools.docs`; `llama-box --help` prints the same.

Options may stand in any order and the last one wins, as `--flag value` or `--flag=value`. A flag beats its environment
variable, a variable beats the default. Of several variables the first one that is set counts; an empty one is not set.
A flag without a value takes a boolean word in its variable: {", ".join(TRUE_WORDS)} or {", ".join(FALSE_WORDS)}. A
variable of an option that can only switch something off says whether that is on: `LLAMA_ARG_CACHE_PROMPT=0`.

An option that is wrong ends the start with one line on standard error and exit status 2.
"""
_COLUMNS: Final = ("option", "value", "default", "variable", "effect")


def options_page(options: Sequence[Option] = OPTIONS) -> str:
    """The page's text."""
    return "\n".join([_HEAD, *_sections(options)])


def _sections(options: Sequence[Option]) -> Iterator[str]:
    for section in Section:
        if rows := [_row(option) for option in options if option.section is section]:
            yield f"## {section.value}\n"
            yield table(_COLUMNS, rows)


def _row(option: Option) -> list[str]:
    spellings = ", ".join(f"`{flag}`" for flag in (*option.flags, *option.off))
    return [
        spellings,
        _value(option),
        escaped(default_text(option)),
        ", ".join(f"`{name}`" for name in option.env),
        escaped(option.help),
    ]


def _value(option: Option) -> str:
    """What follows the flag; nothing for a switch."""
    if isinstance(option.kind, Switch):
        return ""
    alone = f"; alone: {option.if_alone}" if option.if_alone is not None else ""
    return f"`{escaped(option.metavar)}`: {escaped(option.kind.accepts + alone)}"


def escaped(text: str) -> str:
    """``text`` for a cell of a table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("\n", " ")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, whose cells are escaped already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
