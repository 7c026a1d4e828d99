"""Control tokens in what a user writes: they stay text and never steer the model.

Text of a template and text of its users become one string, in which the tokenizer would take ``<|im_end|>`` for the
token, whoever wrote it. So each spelling of a control token in the input is swapped for a placeholder before
rendering; afterwards the pieces are tokenized apart: placeholders as plain text, the rest with control tokens. Input
without such a spelling, which is nearly all, is rendered and tokenized as one, exactly as it is.
"""

import re
import secrets
from typing import Any, Final

import attrs

from engine.text.backend import Vocab
from llamabox.chat.formats.base import Marks
from llamabox.chat.prefill import KNOWN_MARKS

MEDIA_MARKER: Final = "<__media__>"
"""What stands for a medium in the text of a prompt, as in llama.cpp's own tools."""

# What an assistant said before may hold the marks of its reasoning, which templates look for.
_ALLOWED_OF_ASSISTANT: Final = frozenset(mark.strip() for marks in KNOWN_MARKS for mark in (marks.start, marks.end))


@attrs.frozen
class Piece:
    """A stretch of a prompt; ``trusted`` text may hold control tokens."""

    text: str
    trusted: bool
    media: int | None = None  # which of the conversation's media stands here; the text is its mark


def control_tokens(vocab: Vocab) -> dict[str, int]:
    """The texts of all control tokens, with their ids. Not for the loop: asks for every token of the vocabulary."""
    pieces = {vocab.piece(token, special=True).decode("utf-8", "replace"): token for token in vocab.control_tokens()}
    return {text: token for text, token in pieces.items() if text}


# More alternatives than that in a pattern take longer to try, and to compile, than looking each candidate up.
_FEW: Final = 64


class ControlTokens:
    """Finds the spellings of control tokens. Cheap where there are none."""

    def __init__(self, spellings: frozenset[str]) -> None:
        self._spellings = spellings
        self._lengths = sorted({len(spelling) for spelling in spellings}, reverse=True)
        initials = "".join(re.escape(initial) for initial in sorted({spelling[0] for spelling in spellings}))
        # An alternation of thousands of spellings would try each of them at every "<".
        self._initial = re.compile(f"[{initials}]") if initials else None
        longest_first = map(re.escape, sorted(spellings, key=len, reverse=True))
        self._whole = re.compile("|".join(longest_first)) if 0 < len(spellings) <= _FEW else None

    def find(self, text: str, start: int) -> tuple[int, str] | None:
        """(position, spelling) of the first one at or after ``start``, the longest that begins there."""
        if self._whole is not None:
            found = self._whole.search(text, start)
            return None if found is None else (found.start(), found[0])
        if self._initial is None:
            return None
        for match in self._initial.finditer(text, start):
            at = match.start()
            for length in self._lengths:
                if text[at : at + length] in self._spellings:
                    return at, text[at : at + length]
        return None


class Shield:
    """The placeholders of one prompt."""

    def __init__(self, tokens: ControlTokens, marks: Marks | None = None) -> None:
        """``marks``: those of the format's reasoning, beside the usual ones."""
        self._tokens = tokens
        own = () if marks is None else (marks.start.strip(), marks.end.strip())
        self._allowed_of_assistant = _ALLOWED_OF_ASSISTANT.union(own)
        # Letters and digits only: neither JSON nor trimming changes them, and case is ignored when reading back.
        self._key = "q" + secrets.token_hex(8)
        self._hidden: list[str] = []
        self.n_media = 0

    def mark_media(self) -> str:
        """The placeholder of the next medium. Nobody can write it who does not know this prompt's key."""
        self.n_media += 1
        return f"{self._key}m{self.n_media - 1}z"

    def hide(self, value: Any) -> Any:
        """JSON-like data with each spelling in its strings, keys included, replaced."""
        if isinstance(value, str):
            return self._hide_text(value, frozenset())
        if isinstance(value, dict):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide(item) for item in value]
        return value

    def hide_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """The same for a message; an assistant may have reasoned."""
        hidden = {self.hide(key): self.hide(item) for key, item in message.items() if key != "content"}
        allowed = self._allowed_of_assistant if message.get("role") == "assistant" else frozenset()
        hidden["content"] = self._hide_text(message["content"], allowed)
        return hidden

    def _hide_text(self, text: str, allowed: frozenset[str]) -> str:
        parts: list[str] = []
        done = start = 0
        while (found := self._tokens.find(text, start)) is not None:
            at, spelling = found
            start = at + len(spelling)
            if spelling in allowed:
                continue
            parts += (text[done:at], f"{self._key}x{len(self._hidden)}z")
            self._hidden.append(spelling)
            done = start
        return "".join([*parts, text[done:]]) if parts else text

    def pieces(self, prompt: str) -> list[Piece]:
        """The rendered prompt, cut where placeholders stand for control tokens. Joined it is the text as written."""
        if not self._hidden and not self.n_media:
            return [Piece(prompt, trusted=True)]
        pieces: list[Piece] = []
        # re.split with a group alternates between what lies around the placeholders and their kinds and numbers.
        for n, part in enumerate(re.split(rf"{self._key}([mx]\d+)z", prompt, flags=re.IGNORECASE)):
            if n % 2 == 0:
                pieces += [Piece(part, trusted=True)] if part else []
            elif part[0] in "mM":
                pieces.append(Piece(MEDIA_MARKER, trusted=False, media=int(part[1:])))
            else:
                pieces.append(Piece(self._hidden[int(part[1:])], trusted=False))
        return pieces
