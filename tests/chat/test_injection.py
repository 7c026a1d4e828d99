"""Control tokens are found alike by one pattern (few spellings) and by looking candidates up (many)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamabox.chat import injection
from llamabox.chat.injection import ControlTokens, Shield

ALPHABET = "<a|.>"


def first(spellings: frozenset[str], text: str, start: int) -> tuple[int, str] | None:
    """The same by trying every place and every spelling."""
    for at in range(start, len(text)):
        found = [spelling for spelling in spellings if text.startswith(spelling, at)]
        if found:
            return at, max(found, key=len)
    return None


@pytest.mark.parametrize("few", [0, 64])
@given(
    spellings=st.frozensets(st.text(ALPHABET, min_size=1, max_size=4), max_size=8),
    text=st.text(ALPHABET, max_size=30),
    start=st.integers(0, 30),
)
def test_the_first_and_longest_is_found(few: int, spellings: frozenset[str], text: str, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(injection, "_FEW", few)
        assert ControlTokens(spellings).find(text, start) == first(spellings, text, start)


@given(content=st.lists(st.sampled_from(["<a>", "<|b|>", "<", "x", "a>"]), max_size=8).map("".join))
def test_what_users_write_holds_none_and_comes_back_as_written(content: str) -> None:
    tokens = ControlTokens(frozenset({"<a>", "<|b|>"}))
    shield = Shield(tokens)
    message = shield.hide_message({"role": "user", "content": content})
    assert tokens.find(message["content"], 0) is None
    pieces = shield.pieces(message["content"])
    assert "".join(piece.text for piece in pieces) == content
    assert all(tokens.find(piece.text, 0) is None for piece in pieces if piece.trusted)
