"""Prompts for code with a hole: what is before it, what is behind it, and other files to look at."""

from collections.abc import Sequence
from typing import Final

import attrs

from engine.text.info import ModelInfo

_OPEN_END: Final = 1024  # tokens kept free for a generation that has no limit of its own


@attrs.frozen(kw_only=True)
class InfillParts:
    """Token ids. ``files`` are the other files, each with its heading, in order; ``prompt`` is the end of the prefix.

    ``prefix`` loses its beginning where there is too little room, ``suffix`` its end, ``files`` their beginning.
    """

    prefix: Sequence[int]
    suffix: Sequence[int]
    prompt: Sequence[int] = ()
    files: Sequence[int] = ()


def infill_prompt(parts: InfillParts, info: ModelInfo, *, suffix_first: bool, max_tokens: int | None) -> list[int]:
    """The prompt after which the model writes what belongs into the hole.

    The order is BOS, files, prefix, prompt, suffix; with ``suffix_first`` BOS, files, suffix, prefix, prompt; the
    middle's token ends both. The hole's surroundings take one batch at most, three quarters of it the prefix and one
    the suffix together with the prompt; files get what remains of the context. ``max_tokens`` of it (None: no limit)
    stay free for the answer, half of the context at most. The prompt alone is never cut: with a long one the result
    may not fit. Raises ValueError where the vocabulary lacks the tokens (``info.fim.missing``).
    """
    fim = info.fim
    if fim.prefix is None or fim.suffix is None or fim.middle is None:
        raise ValueError(f"the vocabulary has no token for {', '.join(fim.missing)}")
    start = [info.bos] if info.add_bos and info.bos is not None else []
    room = info.n_ctx_slot - _reserve(info, max_tokens)
    batch = max(min(info.n_batch, room - len(start)), 0)
    prefix = _last(parts.prefix, 3 * (batch // 4))
    suffix = parts.suffix[: max(batch // 4 - 3 - len(parts.prompt), 0)]
    before = [fim.prefix, *prefix, *parts.prompt]
    behind = [fim.suffix, *suffix]
    hole = [*behind, *before, fim.middle] if suffix_first else [*before, *behind, fim.middle]
    return [*start, *_last(parts.files, max(room - len(start) - len(hole), 0)), *hole]


def _reserve(info: ModelInfo, max_tokens: int | None) -> int:
    """Tokens of the context that are kept for the answer; at least one."""
    wanted = min(_OPEN_END, info.n_ctx_slot // 4) if max_tokens is None else max_tokens
    return max(1, min(wanted, info.n_ctx_slot // 2))


def _last(tokens: Sequence[int], n: int) -> Sequence[int]:
    return tokens[max(len(tokens) - n, 0) :]
