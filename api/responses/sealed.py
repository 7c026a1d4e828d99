"""Reasoning as a text that clients give back without reading it.

The API calls it encrypted. Clients that keep no state at a server ask for it, and some give back nothing else of a
reasoning item. There is no secret between a server and its user here, so it is only encoded.
"""

import base64
import binascii
from typing import Final

_MARK: Final = "llama-box:"


def seal(text: str) -> str:
    """``text``, encoded."""
    return _MARK + base64.b64encode(text.encode()).decode()


def unseal(sealed: str) -> str | None:
    """The text, None if another server has made this."""
    if not sealed.startswith(_MARK):
        return None
    try:
        return base64.b64decode(sealed.removeprefix(_MARK), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
