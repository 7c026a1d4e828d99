"""Text that arrives in pieces."""

import pytest

from llamabox.chat.formats.json_strings import read_string
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable


def run[T](source: Reader, parsing: Parsing[T], *pieces: str) -> T:
    """The result of a parser that is fed these pieces, which must be enough for it."""
    for piece in pieces:
        source.push(piece)
        try:
            next(parsing)
        except StopIteration as end:
            return end.value
    source.close()
    try:
        next(parsing)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for text that will not come")


def test_what_comes_next_is_known_as_soon_as_it_is_sure() -> None:
    source = Reader()
    parsing = source.at("<call>", "<calls>")
    source.push("<ca")
    next(parsing)
    source.push("x")
    with pytest.raises(StopIteration) as found:
        next(parsing)
    assert found.value.value is None
    assert source.rest() == "<cax"


@pytest.mark.parametrize("text", ["<calls>", "<call>s", "<call"])
def test_the_longest_literal_wins(text: str) -> None:
    source = Reader()
    found = run(source, source.accept("<call>", "<calls>", ""), *text)
    assert found == {"<calls>": "<calls>", "<call>s": "<call>"}.get(text)


def test_text_before_an_end_is_handed_out_as_it_comes() -> None:
    source, seen = Reader(), []
    parsing = source.until("</a>", "<b>", to=seen.append)
    for piece in ("on", "e <", "/", "x <", "/a"):
        source.push(piece)
        next(parsing)
    assert seen == ["on", "e ", "</x "]
    assert run(source, parsing, ">") == "</a>"
    assert "".join(seen) == "one </x "


def test_white_space_before_an_end_is_left_out_and_kept_elsewhere() -> None:
    source, seen = Reader(), []
    assert run(source, source.until("<b>", to=seen.append, trim=True), "a ", "\n", " b ", "\n", " <b>") == "<b>"
    assert "".join(seen) == "a \n b"
    assert source.trimmed.endswith(" ")
    source, seen = Reader(), []
    assert run(source, source.until("<b>", to=seen.append, trim=True), "a", " \n") is None
    assert "".join(seen) == "a \n"


def test_the_rest_of_an_end_may_be_left_out() -> None:
    for cut, expected in ((False, "a <b"), (True, "a ")):
        source, seen = Reader(), []
        assert run(source, source.until("<b>", to=seen.append, cut=cut), "a <b") is None
        assert "".join(seen) == expected
        assert source.pending == 0


def test_marks_are_read_loosely() -> None:
    for text in ("<a>\n<b=", "<a><b=", " <a> \n\n <b=", "\n<a>\t<b="):
        source = Reader()
        run(source, source.expect_loose("<a>\n<b="), *text, "rest")
        assert source.rest() in ("", "rest")
    source = Reader()
    with pytest.raises(Unparsable):
        run(source, source.expect_loose("<a>\n<b="), "<a>c")


@pytest.mark.parametrize(
    ("text", "found", "left"),
    [
        ("</b>\n</a> x", True, " x"),
        ("</a> x", True, " x"),
        ("</b> x", True, "x"),
        (" x", False, "x"),
        ("\n</", True, ""),
        ("</b></", True, ""),
        ("", False, ""),
    ],
)
def test_ends_may_be_missing_in_part(text: str, found: bool, left: str) -> None:
    source = Reader()
    assert run(source, source.accept_end("\n</b>\n</a>"), text) is found
    assert source.rest() == left


@pytest.mark.parametrize("text", ['{"a": [1, "]}\\"", {}]}', "[]", '"a\\\\"', '"\\"{"', "12.5e3", "null", "true"])
@pytest.mark.parametrize("behind", ["", ",", "}", " ", "</a>", "]"])
def test_a_json_value_ends_where_it_ends(text: str, behind: str) -> None:
    for at in range(len(text)):
        source, seen = Reader(), []
        assert run(source, source.json(seen.append), f" {text[:at]}", text[at:] + behind, "") == text
        assert "".join(seen) == text
        assert source.rest() == behind


@pytest.mark.parametrize("text", ["", " ", "{", '{"a": "}', '"\\', ","])
def test_json_that_does_not_end(text: str) -> None:
    source = Reader()
    with pytest.raises(Unparsable):
        run(source, source.json(), *text)


def test_what_was_read_can_be_given_back() -> None:
    source = Reader()
    run(source, source.take(2), "abcdef")
    source.record()
    run(source, source.take(3))
    assert source.recorded() == "cde"
    run(source, source.take(1))
    assert source.recorded() == ""


@pytest.mark.parametrize("text", ['"', '"abc', '"abc\\', '"\\u12', "abc", ""])
def test_a_string_that_does_not_end(text: str) -> None:
    source = Reader()
    with pytest.raises(Unparsable):
        run(source, read_string(source, lambda _: None), *text)
