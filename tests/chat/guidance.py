"""llguidance over the 256 bytes and named control tokens: what a grammar accepts, and texts that it makes."""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import llguidance

EOS: Final = 256
FIRST_SPECIAL: Final = 257  # the id of the first control token; the others follow
_CLOSING: Final = ('"}', '"]', '"', "}", "]", "'")  # of JSON's and Python's strings and brackets


class _Bytes:
    eos_token_id = EOS
    bos_token_id = None

    def __init__(self, special: Sequence[str]) -> None:
        names = ["<eos>", *special]
        self.tokens = [*(bytes([value]) for value in range(256)), *(b"\xff" + name.encode() for name in names)]
        self.special_token_ids = list(range(EOS, EOS + len(names)))

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@lru_cache
def tokenizer(special: tuple[str, ...] = ()) -> llguidance.LLTokenizer:
    """A vocabulary of the bytes, an end token, and these control tokens, from ``FIRST_SPECIAL`` on."""
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes(special)))


def special_ids(special: Sequence[str]) -> dict[str, int]:
    """The ids that ``tokenizer`` gives these control tokens: what ``Lark`` wants."""
    return {name: FIRST_SPECIAL + at for at, name in enumerate(special)}


def matcher(lark: str, special: tuple[str, ...] = ()) -> llguidance.LLMatcher:
    """A matcher at the start of a grammar, which must be valid."""
    made = llguidance.LLMatcher(tokenizer(special), llguidance.LLMatcher.grammar_from_lark(lark), log_level=0)
    assert not made.is_error(), f"{made.get_error()}\n{lark}"
    return made


def tokens(text: str, special: tuple[str, ...] = ()) -> list[int]:
    """The text as byte tokens, with its control tokens as such, the longest first."""
    found: list[int] = []
    at = 0
    while at < len(text):
        name = max((name for name in special if text.startswith(name, at)), key=len, default=None)
        found.extend([FIRST_SPECIAL + special.index(name)] if name else text[at].encode())
        at += len(name or text[at])
    return found


def accepts(lark: str, text: str, special: tuple[str, ...] = ()) -> bool:
    """Whether the whole text matches the grammar."""
    made = matcher(lark, special)
    return made.consume_tokens(tokens(text, special)) and made.is_accepting()


def accepted(lark: str, text: str, special: tuple[str, ...] = ()) -> int:
    """How many tokens of the text the grammar takes: for messages about what it refused."""
    return matcher(lark, special).validate_tokens(tokens(text, special))


def sample(
    lark: str,
    seed: int,
    special: tuple[str, ...] = (),
    *,
    closing: Sequence[str] = (),
    free: int = 40,
    limit: int = 2000,
) -> str:
    """A text of the grammar: tokens at random (ASCII and control tokens), behind the first ``free`` ones straight on.

    ``closing``: texts that end free text, besides those of JSON and Python; random text alone would not come upon them.
    Raises AssertionError if the text does not end within ``limit`` tokens.
    """
    chance = random.Random(seed)
    made = matcher(lark, special)
    text = bytearray()
    controls = range(FIRST_SPECIAL, FIRST_SPECIAL + len(special))
    closings = [tokens(end, special) for end in (*special, *closing, *_CLOSING)]
    for step in range(limit):
        bits = made.compute_bitmask()
        allowed = [token for token in (*range(256), EOS, *controls) if bits[token >> 3] >> (token & 7) & 1]
        assert allowed, f"no way on behind {text!r}"
        ending = step >= free or chance.random() < 0.3
        if EOS in allowed and (ending or len(allowed) == 1):
            return text.decode()
        chosen = [chance.choice([token for token in allowed if token < 128 or token >= FIRST_SPECIAL] or allowed)]
        if ending:
            shuffled = chance.sample(closings, len(closings))
            chosen = next((c for c in shuffled if made.validate_tokens(c) == len(c)), chosen)
        assert made.consume_tokens(chosen), made.get_error()
        text += b"".join(special[t - FIRST_SPECIAL].encode() if t >= FIRST_SPECIAL else bytes([t]) for t in chosen)
    raise AssertionError(f"no end within {limit} tokens: {text[:500]!r}")
