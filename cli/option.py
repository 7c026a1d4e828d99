"""One command-line option. The parser, the environment, the help and the checks all read this declaration."""

import enum
from typing import Final

import attrs

from cli.kinds import Kind, Switch

ENV_PREFIX: Final = "LLAMA_ARG_"


class Section(enum.Enum):
    """A heading of the help."""

    GENERAL = "general"
    SERVER = "server"
    COMPLETION = "completion"
    SPECULATIVE = "speculative"
    VISUAL = "visual"
    EMBEDDING = "embedding"
    IMAGES = "images"
    RPC_SERVER = "rpc-server"


def spellings(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """Words from one text with blanks between them."""
    return tuple(text.split()) if isinstance(text, str) else text


def env_names(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """Full variable names: a name that neither starts with LLAMA_ nor is HF_TOKEN gets the common prefix."""
    return tuple(name if name.startswith(("LLAMA_", "HF_TOKEN")) else ENV_PREFIX + name for name in spellings(text))


@attrs.frozen(kw_only=True)
class Option:
    """A declaration.

    ``flags`` and ``off`` are spellings (``off`` sets a switch to its off value), ``env`` variable names, the first one
    that is set counts. ``setting`` is the dotted path of the attribute of ``llamabox.settings.Settings`` that takes the
    value; two options with one setting are two spellings of it, the last one wins. A repeatable option's kind gives
    tuples, which are joined. ``if_alone`` is the value of a flag that stands without one.
    """

    section: Section
    flags: tuple[str, ...] = attrs.field(converter=spellings, default=())
    off: tuple[str, ...] = attrs.field(converter=spellings, default=())
    kind: Kind = attrs.field(factory=Switch)
    metavar: str = ""
    help: str
    env: tuple[str, ...] = attrs.field(converter=env_names, default=())
    default: str = ""  # shown in the help when Settings cannot say it
    setting: str | None = None
    repeat: bool = False
    if_alone: str | None = None

    @property
    def name(self) -> str:
        """The first long spelling."""
        every = (*self.flags, *self.off)
        return next((flag for flag in every if flag.startswith("--")), every[0])

    @property
    def key(self) -> str:
        """Under which name the value is kept."""
        return self.setting or self.name
