"""Where a trigger is found, under every split of the text into tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.requests import Trigger
from engine.text.triggers import Found, TriggerSearch
from tests.engine.test_detokenizer import every_split

CALL = Trigger("<call>", included=True)
BEHIND = Trigger("</t>", included=False)


def feed(search: TriggerSearch, pieces: list[bytes]) -> tuple[Found | None, int]:
    """What was found, and how many tokens that took. Tokens are numbered."""
    for token, piece in enumerate(pieces):
        found = search.feed(token, piece)
        if found is not None:
            return found, token + 1
    return None, len(pieces)


def start_of(found: Found, pieces: list[bytes]) -> int:
    """The byte of the text at which the grammar begins."""
    assert list(found.pieces) == [pieces[token] for token in found.tokens]
    if not found.tokens:
        assert found.skip == 0
        return sum(map(len, pieces))
    assert found.skip < len(found.pieces[0])
    return sum(map(len, pieces[: found.tokens[0]])) + found.skip


@pytest.mark.parametrize(("trigger", "text", "expected"), [(CALL, b"<c <call>x", 3), (BEHIND, b"a</</t>x", 7)])
def test_a_trigger_is_found_wherever_tokens_end(trigger: Trigger, text: bytes, expected: int) -> None:
    for pieces in every_split(text):
        found, count = feed(TriggerSearch([trigger]), pieces)
        assert found is not None
        assert start_of(found, pieces[:count]) == expected
        needed = expected + 6 if trigger.included else expected
        ends = [sum(map(len, pieces[:n])) for n in range(1, len(pieces) + 1)]
        assert ends[count - 1] >= needed > (ends[count - 2] if count > 1 else 0), "in the token that completes it"


def test_tokens_without_text_are_passed_over() -> None:
    found, count = feed(TriggerSearch([CALL]), [b"", b"a<ca", b"", b"ll", b"", b">x", b"more"])
    assert (found, count) == (Found((1, 3, 5), (b"a<ca", b"ll", b">x"), 1), 6)


def test_the_trigger_that_is_complete_first_wins() -> None:
    triggers = [Trigger("<a><b>", included=True), Trigger("<b", included=False), Trigger("><b", included=True)]
    for pieces in every_split(b"x<a><b>"):
        found, count = feed(TriggerSearch(triggers), pieces)
        assert found is not None
        assert start_of(found, pieces[:count]) == 3, "of those that end together the one that begins first"


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=40))
def test_nothing_is_kept_of_a_text_that_cannot_be_a_beginning(pieces: list[bytes]) -> None:
    search = TriggerSearch([Trigger("nowhere!", included=True)])
    assert feed(search, pieces) == (None, len(pieces))
    assert len(search._tail) <= 7 + 4
    assert len(search._recent) <= 8


@given(
    st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"aab", b"c"]), max_size=12),
    st.text("ab", min_size=1, max_size=4),
)
def test_it_finds_what_a_search_in_the_whole_text_finds(pieces: list[bytes], needle: str) -> None:
    found, count = feed(TriggerSearch([Trigger(needle, included=True)]), pieces)
    at = b"".join(pieces).find(needle.encode())
    assert (found is None) == (at < 0)
    if found is not None:
        assert start_of(found, pieces[:count]) == at


def test_a_trigger_may_be_any_text() -> None:
    found, _ = feed(
        TriggerSearch([Trigger("é\ud800", included=True)]), list(map(bytes, zip("xé?".encode(), strict=False)))
    )
    assert found is not None
    assert start_of(found, [b"x", b"\xc3", b"\xa9", b"?"]) == 1
