"""The builder of grammars, checked by what llguidance makes of them."""

from typing import Any

import pytest

from llamabox.chat.grammar.lark import FREE_TEXT, Lark
from tests.chat import guidance

SPECIAL = ("<a>", "<abc>", "</a>")


def test_control_tokens_stand_for_their_text() -> None:
    lark = Lark(guidance.special_ids(SPECIAL))
    source = lark.source(lark.text('<abc> "quoted" \\ ü\n</a>'))
    assert source == 'start: <[258]> " \\"quoted\\" \\\\ ü\\n" <[259]>\n'
    assert guidance.accepts(source, '<abc> "quoted" \\ ü\n</a>', SPECIAL)
    assert not guidance.accepts(source, '<abc> "quoted" \\ ü\n', SPECIAL)
    assert Lark().text("") == '""'


def test_text_up_to_an_end() -> None:
    for special in ((), SPECIAL):
        for end in ("</a>", "\n</a>", "</a>\nx", "x</a>y"):
            lark = Lark(guidance.special_ids(special))
            source = lark.source(f"{lark.until(end)} {lark.text('!')}")
            assert guidance.accepts(source, f"any <text> \n here{end}!", special), end
            assert guidance.accepts(source, f"{end}!", special), end
            assert not guidance.accepts(source, f"{end}a{end}!", special), end
            assert not guidance.accepts(source, "any!", special), end


def test_json_is_written_in_one_way() -> None:
    lark = Lark()
    source = lark.source(lark.json({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}}))
    assert guidance.accepts(source, '{"a": 1, "b": [1, "x"]}')
    assert not guidance.accepts(source, '{"a":1}')
    assert not guidance.accepts(source, '{"a": 1,"b": 2}')
    assert not guidance.accepts(source, '{ "a": 1}')
    anything = Lark()
    assert guidance.accepts(anything.source(anything.json(True)), "[3]")


def test_equal_rules_are_one() -> None:
    lark = Lark()
    assert lark.json({"type": "integer"}) == lark.json({"type": "integer"})
    assert lark.until("x") != lark.until("y")
    assert lark.source("r0").count("\n") == 4


def test_any_text_is_known_as_such() -> None:
    lark = Lark()
    other = lark.rule('"x"')
    assert lark.is_free(FREE_TEXT)
    assert lark.is_free(lark.rule(FREE_TEXT))
    assert not lark.is_free(other)
    assert not Lark().is_free("r0")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "number", "minimum": -3.4028235e38, "exclusiveMaximum": 3.4028235e38},
        {"anyOf": [{"type": "integer", "exclusiveMinimum": -(2**63) - 1}]},
    ],
)
def test_bounds_that_no_number_reaches_are_left_out(schema: dict[str, Any]) -> None:
    """They are those of the sender's types. llguidance has no expression for them."""
    lark = Lark()
    source = lark.source(lark.json(schema))
    assert guidance.accepts(source, "-12")


@pytest.mark.parametrize("name", ["default", "enum", "properties", "minimum"])
def test_a_property_may_be_called_as_a_keyword_is(name: str) -> None:
    lark = Lark()
    far = {"type": "integer", "minimum": -(2**63)}
    inner = {"type": "object", "properties": {name: far}, "required": [name]}
    schema = {"type": "object", "properties": {name: inner}, "required": [name]}
    assert guidance.accepts(lark.source(lark.json(schema)), f'{{"{name}": {{"{name}": -12}}}}')


def test_other_bounds_hold_and_data_is_not_touched() -> None:
    lark = Lark()
    schema = {"type": "integer", "minimum": 0, "maximum": 2**53}
    source = lark.source(lark.json(schema))
    assert guidance.accepts(source, str(2**53))
    assert not guidance.accepts(source, "-1")
    assert not guidance.accepts(source, str(2**53 + 1))
    lark = Lark()
    assert guidance.accepts(lark.source(lark.json({"enum": [{"minimum": 2**60}]})), f'{{"minimum": {2**60}}}')
