"""The detokenizer under every split of its input."""

import codecs
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.text.detokenizer import Detokenizer


def splits(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """All ways to cut the bytes into pieces, empty ones included."""
    cuts = st.lists(st.integers(0, len(data)), max_size=6).map(sorted)
    return cuts.map(lambda at: [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)])


def every_split(data: bytes) -> Iterator[list[bytes]]:
    for mask in range(1 << (len(data) - 1)):
        pieces, start = [], 0
        for i in range(len(data) - 1):
            if mask >> i & 1:
                pieces.append(data[start : i + 1])
                start = i + 1
        yield [*pieces, data[start:]]


def first_stop(text: str, stops: list[str]) -> tuple[int, str] | None:
    """Where the stop string begins that is complete first; the longest of several."""
    for end in range(1, len(text) + 1):
        found = [s for s in stops if text.endswith(s, 0, end)]
        if found:
            stop = max(found, key=len)
            return end - len(stop), stop
    return None


def run(pieces: list[bytes], stops: list[str]) -> tuple[str, str | None]:
    """Text and stop string; checks on the way that nothing is held back without need."""
    detokenizer = Detokenizer(stops)
    plain = codecs.getincrementaldecoder("utf-8")(errors="replace")
    seen = out = ""
    for data in pieces:
        seen += plain.decode(data)
        piece = detokenizer.feed(data)
        out += piece.text
        assert detokenizer.n_out == len(out)
        assert detokenizer.n_in == len(seen)
        if piece.stop is not None:
            return out, piece.stop
        held = max((n for s in stops for n in range(len(s)) if seen.endswith(s[:n])), default=0)
        assert out == seen[: len(seen) - held], "what cannot become a stop string is out at once, and nothing else is"
    out += detokenizer.finish()
    assert detokenizer.n_in == detokenizer.n_out == len(out)
    return out, None


texts = st.text("ab\n é€😀", max_size=12)
stop_lists = st.lists(st.text("abé€", min_size=1, max_size=4), max_size=3, unique=True)


@given(st.data(), st.binary(max_size=12) | texts.map(str.encode))
def test_bytes_become_what_decoding_them_at_once_gives(data: st.DataObject, raw: bytes) -> None:
    assert run(data.draw(splits(raw)), []) == (raw.decode("utf-8", "replace"), None)


@given(st.data(), texts, stop_lists)
def test_the_text_ends_before_the_first_stop_string(data: st.DataObject, text: str, stops: list[str]) -> None:
    assume(not any(a != b and a in b for a in stops for b in stops))
    found = first_stop(text, stops)
    expected = (text, None) if found is None else (text[: found[0]], found[1])
    assert run(data.draw(splits(text.encode())), stops) == expected


@pytest.mark.parametrize(("text", "stops"), [("xabcx", ["b", "abc"]), ("xaax", ["a", "aa"]), ("xéaéx", ["a", "éaé"])])
def test_the_split_makes_no_difference(text: str, stops: list[str]) -> None:
    """Also where one stop string is a part of another: how the model cuts its text into tokens must not matter."""
    assert len({run(pieces, stops)[0] for pieces in every_split(text.encode())}) == 1


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("aé<END>b", ["<END>"], ("aé", "<END>")),
        ("a<END<END>", ["<END>"], ("a<END", "<END>")),
        ("aaab", ["aab"], ("a", "aab")),
        ("x€y", ["€"], ("x", "€")),
        ("no stop", ["stopper"], ("no stop", None)),
        ("one\n\nt", ["\n\n", "two"], ("one", "\n\n")),
    ],
)
def test_every_split_of_these(text: str, stops: list[str], expected: tuple[str, str | None]) -> None:
    for pieces in every_split(text.encode()):
        assert run(pieces, stops) == expected


def test_an_unfinished_character_is_marked_at_the_end() -> None:
    detokenizer = Detokenizer()
    assert detokenizer.feed("é".encode()[:1]).text == ""
    assert detokenizer.finish() == "\ufffd"


def test_empty_stop_strings_stop_nothing() -> None:
    assert run([b"abc"], [""]) == ("abc", None)
