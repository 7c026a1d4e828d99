"""Flags that have no effect because the only model makes images: said at the start, not refused.

Starters of servers give the same flags to every model. Flags that would have to do something for the server to be what
was asked for are refused instead, see ``cli.images``.
"""

from collections.abc import Mapping
from typing import Final

from cli.option import Section
from cli.parse import FLAGS, Given

_OF_TEXT: Final = frozenset({Section.COMPLETION, Section.SPECULATIVE, Section.VISUAL, Section.EMBEDDING})
# In the other sections: what these settings are about only text has.
_SETTINGS_OF_TEXT: Final = ("engine.", "defaults.", "chat.", "media.")
_ROUTES_OF_TEXT: Final = frozenset({"server.prepare_threads"})
# What an image model has a use for as well; how weights are loaded is looked at in ``cli.images``.
_OF_BOTH: Final = frozenset({"engine.context.n_threads", "engine.context.flash_attention", "engine.warmup",
                             "defaults.sampling.seed"})  # fmt: skip
_LOADING: Final = "engine.model."


def ignored_without_text(values: Mapping[str, Given]) -> tuple[str, ...]:
    """The flags, as they were written. Variables are there for all models and are not counted."""
    return tuple(given.spelling for given in values.values() if given.spelling in FLAGS and _is_ignored(given))


def _is_ignored(given: Given) -> bool:
    setting = given.option.setting or ""
    if setting in _OF_BOTH or setting.startswith(_LOADING):
        return False
    if given.option.section in _OF_TEXT or setting in _ROUTES_OF_TEXT:
        return True
    return setting.startswith(_SETTINGS_OF_TEXT)
