"""llama.cpp's grammar format (GBNF), in llguidance's dialect of Lark."""

import importlib
import re
from typing import Final

from engine.errors import InvalidRequest

_MOST_CHARACTERS: Final = 64 * 1024
_LARK: Final = re.compile(r"^[ \t]*(?:%llguidance\b|start[ \t]*(?:\[[^\]\n]*\][ \t]*)?:(?!:=))", re.MULTILINE)
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)
_LAST_CODE: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def _plain(match: re.Match[str]) -> str:
    """A character given by its number as itself: the converter writes those of Unicode in a way that Lark refuses."""
    digits = next(filter(None, match.groups()), None)
    if digits is None:
        return match.group()
    code = int(digits, 16)
    if code > _LAST_CODE or code in _SURROGATES:
        raise InvalidRequest(f"the grammar is no valid GBNF: {match.group()} is no character", "grammar")
    return f"\\x{code:02x}" if code < 0xA0 else chr(code)  # below, what has a meaning of its own


def is_lark(text: str) -> bool:
    """Whether a grammar is Lark already: it has a rule ``start`` in Lark's notation, or an ``%llguidance`` line."""
    return _LARK.search(text) is not None


def gbnf_to_lark(text: str) -> str:
    """The grammar in Lark. Raises InvalidRequest with the reason for what is no GBNF."""
    if len(text) > _MOST_CHARACTERS:
        raise InvalidRequest(f"the grammar has more than {_MOST_CHARACTERS} characters", "grammar")
    if not text.strip():
        raise InvalidRequest("the grammar is empty", "grammar")
    text = _ESCAPE.sub(_plain, text)
    convert = importlib.import_module("llguidance.gbnf_to_lark").gbnf_to_lark
    try:
        lark: str = convert(text)
    except RecursionError:
        raise InvalidRequest("the grammar is nested too deeply", "grammar") from None
    except IndexError:
        raise InvalidRequest("the grammar is no valid GBNF: it ends in an escape sequence", "grammar") from None
    except Exception as error:  # it raises bare ones
        raise InvalidRequest(f"the grammar is no valid GBNF: {error}", "grammar") from error
    return lark
