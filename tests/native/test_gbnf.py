"""GBNF in Lark: what the result accepts, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.guidance.gbnf import gbnf_to_lark, is_lark
from tests.chat.guidance import accepts

JSON = r"""
# an object of numbers
root   ::= "{" ws (pair ("," ws pair)*)? "}"   # the whole text
pair   ::= string ":" ws number
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\""
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)?
ws     ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize("text", ["{}", '{"a":1}', '{ "a\\n": -1.5, "é\\u00e9":0}', '{\n\t"a":1234567890123456}'])
def test_it_accepts_what_the_grammar_does(text: str) -> None:
    assert accepts(gbnf_to_lark(JSON), text)


@pytest.mark.parametrize("text", ["", "{", '{"a":}', '{"a":01}', '{"a\n":1}', '{"a":1,}', '{"\\x":1}', '{"a":1} '])
def test_it_refuses_what_the_grammar_does(text: str) -> None:
    assert not accepts(gbnf_to_lark(JSON), text)


@pytest.mark.parametrize(
    ("escape", "text"),
    [
        (r"\x41", "A"),
        (r"\xe9", "é"),
        (r"\u00e9", "é"),
        (r"\u20AC", "€"),
        (r"\U0001F600", "😀"),
        (r"\n", "\n"),
        (r"\"", '"'),
        (r"\\", "\\"),
        (r"\\u0041", "\\u0041"),
        (r"\u0022", '"'),
        (r"\u005c", "\\"),
    ],
)
def test_escapes(escape: str, text: str) -> None:
    assert accepts(gbnf_to_lark(f'root ::= "{escape}"'), text)
    assert accepts(gbnf_to_lark(f"root ::= [{escape}]+"), text) or len(text) > 1
    assert not accepts(gbnf_to_lark(f'root ::= "{escape}"'), "?")


def test_ranges_of_characters_beyond_ascii() -> None:
    lark = gbnf_to_lark(r"root ::= [\u3040-\u309F]+")
    assert accepts(lark, "ひらがな")
    assert not accepts(lark, "カ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("root", "Expected ::="),
        ('root ::= "a', "end of input"),
        ("root ::= [a-z", "end of input"),
        ('root ::= "\\', "escape sequence"),
        ('root ::= "\\q"', "escape"),
        (r'root ::= "\uD800"', "no character"),
        (r'root ::= "\U00110000"', "no character"),
        ("root ::= other", "'other' not found"),
        ('other ::= "a"', "No 'root' rule"),
        ('root ::= "a" )', "Expected name"),
        ('root ::= "a"{2', "Expected"),
        ('root ::= "a" start\nstart ::= "b"', "already exists"),
        ("root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000, "nested too deeply"),
        ("root ::= " + '"a" ' * 20_000, "more than 65536"),
        ("root ::= " + "x" * 70_000, "more than 65536"),
    ],
)
def test_what_is_no_gbnf_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        gbnf_to_lark(text)
    assert caught.value.param == "grammar"


@given(st.text('root:= "ab[]\\(){}|*+?.-,1\nu0', max_size=40))
def test_any_text_is_converted_or_refused(text: str) -> None:
    for candidate in (text, f"root ::= {text}"):
        try:
            assert isinstance(gbnf_to_lark(candidate), str)
        except InvalidRequest as error:
            assert error.message.startswith("the grammar is ")  # noqa: PT017  # either will do


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('start: "a"', True),
        ('%llguidance {}\nstart: "a"', True),
        ('x: "a"\n  start : x', True),
        ('start[stop="x"]: /a*/', True),
        ('root ::= "a"', False),
        ('start ::= "a"\nroot ::= start', False),
        ('root ::= "start: "', False),
        ("\n" * 1_000_000 + "start" + " " * 1_000_000, False),
    ],
)
def test_lark_is_told_from_gbnf(text: str, expected: bool) -> None:
    assert is_lark(text) is expected
