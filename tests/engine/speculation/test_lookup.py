"""Prompt lookup: the longest earlier match, and tables of n-grams with their files."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import StorageError
from engine.text.requests import GenerationRequest
from engine.text.sequence import Sequence
from engine.text.speculation.history import History, Match
from engine.text.speculation.lookup import LONGEST_MATCH, Lookup
from engine.text.speculation.ngrams import SAVE_EVERY, NgramFile, NgramTable, load
from engine.text.tokens import row
from tests.engine.driver import Clock


def text(tokens: list[int], n_generated: int = 0) -> Sequence:
    sequence = Sequence.of(GenerationRequest(id="x", prompt=tokens), 1, 0.0)
    sequence.n_generated = n_generated
    return sequence


def longest(tokens: list[int], most: int) -> Match | None:
    """By trying every place."""
    n = len(tokens)
    best = None
    for end in range(1, n):
        length = 0
        while length < min(most, end) and tokens[end - length - 1] == tokens[n - length - 1]:
            length += 1
        if length and (best is None or length >= best.length):
            best = Match(end, length)
    return best


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 8))
def test_the_match_is_the_longest_and_of_those_the_latest(tokens: list[int], most: int) -> None:
    history = History()
    history.follow(text(tokens))
    found, expected = history.match(most), longest(tokens, most)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.length == expected.length
        assert found.end == expected.end


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=9))
def test_a_history_grows_with_its_text(parts: list[list[int]]) -> None:
    history, sequence = History(), text([5])
    for part in parts:
        sequence.tokens.extend(part)
        history.follow(sequence)
        assert history.tokens.tolist() == sequence.tokens.tolist()


def test_a_history_notices_a_context_shift() -> None:
    history, sequence = History(), text(list(range(40)))
    history.follow(sequence)
    del sequence.tokens[2:12]
    sequence.tokens.extend(range(100, 120))
    history.follow(sequence)
    assert history.tokens.tolist() == sequence.tokens.tolist()


def test_a_draft_is_what_stood_behind_the_match() -> None:
    draft = Lookup(2).propose({(sequence := text([1, 2, 3, 4, 5, 6, 9, 2, 3])): 3})[sequence]
    assert draft.tokens == (4, 5, 6)
    assert draft.levels == (("text", 2), ("text", 3), ("text", 4)), "each right token makes the match longer"


def test_a_text_that_repeats_itself_goes_on_doing_so() -> None:
    draft = Lookup(1).propose({(sequence := text([7, 1, 2, 1, 2])): 5})[sequence]
    assert draft.tokens == (1, 2, 1, 2, 1)


@pytest.mark.parametrize(("least", "drafted"), [(1, True), (2, True), (3, False)])
def test_a_match_has_its_least_length(least: int, drafted: bool) -> None:
    assert bool(Lookup(least).propose({text([1, 2, 3, 9, 1, 2]): 3})) is drafted


def test_media_are_neither_matched_nor_drafted() -> None:
    media = [-(1 << 62), -(1 << 62) - 1]
    draft = Lookup(1).propose({(sequence := text([1, 2, *media, 3, 1, 2])): 4})
    assert draft == {}, "an image follows"
    assert Lookup(1).propose({text([1, *media, *media]): 4}) == {}
    assert sequence.tokens[2:4] == row(media)


def test_very_long_matches_are_cut() -> None:
    history = History()
    history.follow(text([1] * 100))
    match = history.match(LONGEST_MATCH)
    assert match == Match(99, LONGEST_MATCH)


def test_a_table_says_what_followed_most_often() -> None:
    table = NgramTable()
    table.learn([1, 2, 3, 1, 2, 4, 1, 2, 4], 0)
    follower = table.best((1, 2))
    assert follower is not None
    assert (follower.token, follower.count, follower.share) == (4, 2, pytest.approx(2 / 3))
    assert table.best((9,)) is None


def test_a_table_learns_only_what_is_new_and_long_enough() -> None:
    table = NgramTable()
    table.learn([1, 2, 3, 4, 5], 4, least=2)
    assert table.best((3, 4)) is not None
    assert table.best((4,)) is None
    assert table.best((2, 3)) is None


def test_a_table_forgets_the_oldest() -> None:
    table = NgramTable(most=3)
    table.learn([1, 2, 3, 4, 5, 6], 0)
    assert len(table) == 3
    assert table.best((1,)) is None
    assert table.best((2, 3, 4, 5)) is not None


def test_drafts_come_from_tables_where_the_text_knows_nothing(tmp_path: Path) -> None:
    static = NgramTable()
    static.learn([1, 2, 3, 4, 1, 2, 3, 4], 0)
    draft = Lookup(2, static).propose({(sequence := text([8, 1, 2])): 3})[sequence]
    assert draft.tokens == (3, 4, 1)
    assert {name for name, _ in draft.levels} == {"static"}


def test_a_dynamic_table_learns_what_was_generated_and_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    lookup = Lookup(2, None, NgramFile(str(path), n_vocab=10))
    lookup.forget(text([1, 2, 3, 4, 5, 6], n_generated=3))
    lookup.close()
    again = load(str(path), 10)
    follower = again.best((3, 4))
    assert follower is not None
    assert follower.token == 5
    assert again.best((1, 2)) is None, "a prompt is not learned"
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"]


def test_a_dynamic_table_is_saved_every_few_minutes(tmp_path: Path) -> None:
    clock = Clock()
    file = NgramFile(str(tmp_path / "cache"), 10, clock)
    file.table.learn([1, 2], 0)
    file.save_sometimes()
    assert not (tmp_path / "cache").exists()
    clock.now += SAVE_EVERY
    file.save_sometimes()
    assert (tmp_path / "cache").exists()


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = NgramFile(str(tmp_path / "gone" / "cache"), 10)
    file.table.learn([1, 2], 0)
    file.save()
    assert "cannot be saved" in caplog.text


def test_the_format_is_that_of_llama_cpp() -> None:
    table = NgramTable()
    table.learn([7, 8, 9], 2, least=2)
    assert table.to_bytes() == struct.pack("<5i2i", 7, 8, -1, -1, 1, 9, 1)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_a_file_is_read_as_it_was_written(tokens: list[int]) -> None:
    table = NgramTable()
    table.learn(tokens, 0)
    assert NgramTable.from_bytes(table.to_bytes(), 6).to_bytes() == table.to_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GGUF", "cut off"),
        (struct.pack("<5i", 1, -1, -1, -1, 1), "cut off"),
        (struct.pack("<5i2i", -1, 1, -1, -1, 1, 2, 3), "no file of n-grams"),
        (struct.pack("<5i2i", 1, -1, -1, -1, 1, 2, 0), "no file of n-grams"),
        (struct.pack("<5i2i", 1, -1, -1, -1, 1, 99, 1), "not in the vocabulary"),
    ],
)
def test_a_file_that_is_none_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=reason):
        load(str(path), 10)


def test_a_static_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        load(str(tmp_path / "absent"), 10)
