"""When a model's reasoning has used up its budget."""

import attrs
import pytest

from engine.text.requests import Thinking
from engine.text.thinking import ThinkingBudget
from tests.engine.test_detokenizer import every_split

OPEN = Thinking(budget=3, open=True, start="<think>", end_text="</think>", end=(1, 2))
AHEAD = attrs.evolve(OPEN, open=False)


def due_after(thinking: Thinking, pieces: list[bytes]) -> int | None:
    """After how many tokens it is due, None if never."""
    budget = ThinkingBudget(thinking)
    for count, piece in enumerate([*pieces, b""]):
        if budget.due:
            return count
        budget.feed(piece)
    return None


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_an_open_reasoning_is_due_after_its_budget(budget: int) -> None:
    thinking = attrs.evolve(OPEN, budget=budget)
    assert due_after(thinking, [b"a", b"", b"b", b"c", b"d"]) == budget, "tokens without text count too"


def test_what_ends_by_itself_is_never_due() -> None:
    assert due_after(attrs.evolve(OPEN, budget=9), [b"a", b"</th", b"ink>", *[b"x"] * 20]) is None
    assert due_after(OPEN, [b"a", b"b</think>", *[b"x"] * 20]) is None
    for pieces in every_split(b"a</think>"):
        assert due_after(attrs.evolve(OPEN, budget=9), [*pieces, *[b"x"] * 20]) is None


def test_a_reasoning_that_begins_the_output_counts_from_its_start() -> None:
    for pieces in every_split(b"\n<think>"):
        assert due_after(AHEAD, [*pieces, b"a", b"b", b"c", b"d"]) == len(pieces) + 3
    assert due_after(attrs.evolve(AHEAD, budget=0), [b"<think>", b"a"]) == 1
    assert due_after(AHEAD, [b"<think></think>", *[b"x"] * 20]) is None


def test_a_marker_in_the_middle_of_the_text_begins_nothing() -> None:
    assert due_after(AHEAD, [b"so <think>", *[b"x"] * 20]) is None
    assert due_after(AHEAD, [b"<thing>", b"<think>", *[b"x"] * 20]) is None
    assert due_after(attrs.evolve(AHEAD, start=""), [b"x"] * 20) is None


def test_white_space_around_the_markers_does_not_matter() -> None:
    thinking = attrs.evolve(AHEAD, start="<think>\n", end_text="\n</think>\n\n")
    assert due_after(thinking, [b"<think>", b"a", b"b", b"c"]) == 4
    assert due_after(thinking, [b"<think>", b"a</think>", *[b"x"] * 20]) is None


@pytest.mark.parametrize("char", ["é", "€", "😀"])
def test_no_character_is_cut_in_two(char: str) -> None:
    raw = char.encode()
    for cut in range(1, len(raw)):
        pieces = [b"a", b"b", b"c" + raw[:cut], raw[cut:], b"d"]
        assert due_after(OPEN, pieces) == 4
    assert due_after(OPEN, [raw, raw, raw]) == 3
    assert due_after(OPEN, [b"\x80", b"\x80\x80\x80", b"\xff"]) == 3, "what is no text is nothing to wait for"
    assert due_after(OPEN, [b"a", b"b", b"\x80\x80\x80\x80"]) == 3


def test_closed_is_closed() -> None:
    budget = ThinkingBudget(attrs.evolve(OPEN, budget=0))
    assert budget.due
    budget.close()
    assert not budget.due
    budget.feed(b"<think>")
    assert not budget.due
