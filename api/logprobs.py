"""Token probabilities in the three forms that clients know."""

import codecs
import math
from collections.abc import Sequence
from typing import Any, Final

from engine.text.requests import TokenInfo, TokenProb

# What stands for minus infinity, which JSON cannot carry.
_IMPOSSIBLE: Final = -9999.0


def _logprob(prob: TokenProb) -> float:
    return max(prob.logprob, _IMPOSSIBLE) if not math.isnan(prob.logprob) else _IMPOSSIBLE


def _text(prob: TokenProb) -> str:
    return prob.piece.decode(errors="replace")


def chat_logprobs(infos: Sequence[TokenInfo]) -> dict[str, Any]:
    """The logprobs object of a chat choice."""

    def entry(prob: TokenProb) -> dict[str, Any]:
        return {"token": _text(prob), "logprob": _logprob(prob), "bytes": list(prob.piece)}

    content = [{**entry(info), "top_logprobs": [entry(top) for top in info.top]} for info in infos]
    return {"content": content, "refusal": None}


def native_probs(infos: Sequence[TokenInfo], *, post_sampling: bool) -> list[dict[str, Any]]:
    """completion_probabilities: log probabilities of the raw logits, or probabilities after the samplers."""

    def entry(prob: TokenProb) -> dict[str, Any]:
        value = {"prob": math.exp(min(_logprob(prob), 0.0))} if post_sampling else {"logprob": _logprob(prob)}
        return {"id": prob.token, "token": _text(prob), "bytes": list(prob.piece), **value}

    name = "top_probs" if post_sampling else "top_logprobs"
    return [{**entry(info), name: [entry(top) for top in info.top]} for info in infos]


class LegacyLogprobs:
    """The logprobs object of a completion choice; text_offset goes on from part to part.

    The token that is there is among the top ones too, as OpenAI and vLLM have it.
    """

    def __init__(self) -> None:
        self._offset = 0  # characters
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def echo(self, text: str, infos: Sequence[TokenInfo]) -> dict[str, Any]:
        """The object for a prompt, which comes first and is told as ``text``; of its first token nothing is known."""
        offsets = []
        for info in infos:
            offsets.append(self._offset)
            self._offset += self._shown(text, self._decoder.decode(info.piece))
        self._offset = len(text)
        self._decoder.reset()
        told = self._told(infos, offsets)
        told["token_logprobs"][0] = told["top_logprobs"][0] = None
        return told

    def feed(self, infos: Sequence[TokenInfo]) -> dict[str, Any]:
        """The object for the next tokens."""
        offsets = []
        for info in infos:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(info.piece))
        return self._told(infos, offsets)

    def _shown(self, text: str, piece: str) -> int:
        """Characters of a token that the text has next: none of a control token, nor of a space that was added."""
        return next((len(part) for part in (piece, piece.lstrip(" ")) if text.startswith(part, self._offset)), 0)

    @staticmethod
    def _told(infos: Sequence[TokenInfo], offsets: list[int]) -> dict[str, Any]:
        return {
            "tokens": [_text(info) for info in infos],
            "token_logprobs": [_logprob(info) for info in infos],
            "top_logprobs": [{_text(prob): _logprob(prob) for prob in (*info.top, info)} for info in infos],
            "text_offset": offsets,
        }
