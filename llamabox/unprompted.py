"""What takes the prompt builder's place beside a model that generates nothing: only its tokenizer is of use."""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import trio

from engine.errors import InvalidRequest
from engine.text.backend import Vocab
from llamabox.chat.ask import ChatAsk
from llamabox.embedding.texts import tokenize_texts

_THREADS: Final = 4


class Unprompted:
    """Satisfies ``llamabox.services.Prompts``; ``reason``: why nothing is generated."""

    source = ""
    reasons = False

    def __init__(self, vocab: Vocab, reason: str) -> None:
        self._vocab = vocab
        self._reason = reason
        self._limiter = trio.CapacityLimiter(_THREADS)

    async def plan(self, ask: ChatAsk) -> NoReturn:
        """Raise InvalidRequest."""
        raise InvalidRequest(self._reason)

    async def constrain(self, *, grammar: str | None, schema: Any, strict: bool) -> NoReturn:
        """Raise InvalidRequest."""
        raise InvalidRequest(self._reason)

    async def place(self, text: str, data: Sequence[str], where: str) -> NoReturn:
        """Raise InvalidRequest."""
        raise InvalidRequest(self._reason)

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of ``text``, long ones off the loop."""
        (tokens,) = await tokenize_texts(
            [text], self._vocab, self._limiter, add_special=add_special, parse_special=parse_special
        )
        return tokens
