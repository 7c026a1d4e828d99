"""The indentation guard against a reading of the whole text."""

from hypothesis import given
from hypothesis import strategies as st

from engine.text.indentation import IndentationGuard


def outdented_at(text: str, least: int) -> int | None:
    """Where the first line begins that has text but too few blanks before it; the first line does not count."""
    start = text.find("\n") + 1
    while start:
        end = text.find("\n", start)
        line = text[start:] if end < 0 else text[start:end]
        blanks = len(line) - len(line.lstrip(" \t"))
        if blanks < least and line.strip(" \t"):
            return start
        start = end + 1
    return None


def run(pieces: list[str], least: int) -> tuple[str, bool]:
    guard = IndentationGuard(least)
    out = ""
    for piece in pieces:
        text, ended = guard.feed(piece)
        out += text
        if ended:
            return out, True
    return out, False


texts = st.text("ab \t\n", max_size=20)


@given(texts, st.integers(0, 4))
def test_the_text_ends_before_the_first_outdented_line(text: str, least: int) -> None:
    at = outdented_at(text, least) if least else None
    assert run([text], least) == ((text, False) if at is None else (text[:at], True))


@given(texts, st.integers(0, 4), st.lists(st.integers(0, 20), max_size=5).map(sorted))
def test_splits_matter_only_to_blanks_that_are_out_already(text: str, least: int, cuts: list[int]) -> None:
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)]
    whole, ended = run([text], least)
    out, out_ended = run(pieces, least)
    assert out_ended == ended
    assert out.startswith(whole)
    assert not out[len(whole) :].strip(" \t")
