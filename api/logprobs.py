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
    """The logprobs object of a completion choice; text_offset goes on from part to part."""

    def __init__(self) -> None:
        self._offset = 0  # characters
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, infos: Sequence[TokenInfo]) -> dict[str, Any]:
        """The object for the next tokens."""
        offsets = []
        for info in infos:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(info.piece))
        return {
            "tokens": [_text(info) for info in infos],
            "token_logprobs": [_logprob(info) for info in infos],
            "top_logprobs": [{_text(top): _logprob(top) for top in info.top} for info in infos],
            "text_offset": offsets,
        }
