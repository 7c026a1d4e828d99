"""Token ids back to text."""

from collections.abc import Sequence
from typing import Final

import trio

from engine.text.backend import Vocab

_INLINE: Final = 512  # more tokens than this would hold up the event loop


async def pieces(tokens: Sequence[int], vocab: Vocab) -> list[bytes]:
    """The bytes of each token, control tokens as their text. The ids must be known to be valid.

    Runs to its end where it runs in a thread, even when cancelled.
    """
    if len(tokens) <= _INLINE:
        return _pieces(tokens, vocab)
    return await trio.to_thread.run_sync(_pieces, tokens, vocab)


async def detokenize(tokens: Sequence[int], vocab: Vocab) -> str:
    """The text of ``tokens``; what is not UTF-8 becomes U+FFFD."""
    return b"".join(await pieces(tokens, vocab)).decode(errors="replace")


def _pieces(tokens: Sequence[int], vocab: Vocab) -> list[bytes]:
    return [vocab.piece(token, special=True) for token in tokens]
