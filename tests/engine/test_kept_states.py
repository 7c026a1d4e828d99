"""States of prompts in host memory: which are kept, found and given up."""

import pytest

from engine.text.adapters import AdapterSet
from engine.text.backend import Run
from engine.text.checkpoints import Checkpoints
from engine.text.tokens import row
from tests.engine.fake_backend import Cell, FakeBackend
from tests.engine.rows import lenient
from tests.engine.test_checkpoints import LEAST, STORY, TAIL, A, backend
from tests.engine.test_media import chunk


def fill(fake: FakeBackend, seq: int, text: str) -> list[int]:
    tokens = list(text.encode())
    fake.remove(seq, 0, None)
    for start in range(0, len(tokens), 64):
        fake.decode([Run(seq, start, tokens[start : start + 64], False)])
    return tokens


def keep(kept: Checkpoints, fake: FakeBackend, text: str, key: AdapterSet = (), **fields: bool) -> None:
    kept.save(0, fill(fake, 0, text), key, **fields)
    kept.check_integrity()


def reach(kept: Checkpoints, text: str, key: AdapterSet = ()) -> int:
    return kept.reach(list(text.encode()), 0, key)


def small(fake: FakeBackend, limit: int = 1 << 20, **fields: object) -> Checkpoints:
    return lenient(Checkpoints)(fake, limit, least=LEAST, tail=TAIL, **fields)


def test_the_longest_is_found_that_leaves_a_token_to_compute() -> None:
    fake = backend()
    kept = small(fake)
    for length in (10, 20, 30):
        keep(kept, fake, STORY[:length])
    assert [reach(kept, STORY[:n]) for n in (10, 11, 20, 21, 31)] == [0, 10, 10, 20, 30]
    assert reach(kept, STORY[:25] + "!" * 20) == 20
    assert reach(kept, STORY, A) == 0
    assert kept.reach(list(STORY.encode()), 5, ()) == 5


def test_no_more_comes_back_than_was_announced() -> None:
    """A longer state that was saved meanwhile would lead past the lengths at which the prompt is to stop."""
    fake = backend()
    kept = small(fake)
    for length in (20, 30):
        keep(kept, fake, STORY[:length])
    assert kept.restore(1, list(STORY.encode()), 0, 20, ()) == 20
    assert fake.span(1)[1] == 19


def test_short_ones_are_not_kept_and_equal_ones_once() -> None:
    fake = backend()
    kept = small(fake)
    keep(kept, fake, STORY[: LEAST - 1])
    assert kept.n_bytes == 0
    keep(kept, fake, STORY)
    once = kept.n_bytes
    keep(kept, fake, STORY)
    assert kept.n_bytes == once > 0


def test_the_tokens_are_counted_with_their_numbers() -> None:
    image = chunk("x", 60)
    fake = backend()
    fake.kv.cells += [Cell(token, place, {0}, ()) for place, token in enumerate(image.tokens())]
    kept, tokens = small(fake), image.tokens()
    kept.save(0, tokens, ())
    assert kept.n_bytes - len(fake.save_state(0)) >= tokens.itemsize * len(tokens)


def test_one_that_is_left_again_is_as_good_as_new() -> None:
    fake = backend()
    kept = small(fake, size_of_one() * 5 // 2)
    for letter in "abac":
        keep(kept, fake, letter * 40)
    assert [reach(kept, letter * 41) for letter in "abc"] == [40, 0, 40]


def test_one_that_cannot_be_restored_is_forgotten() -> None:
    fake = backend()
    kept = small(fake)
    tokens = fill(fake, 0, "a" * 40)
    kept.save(0, tokens, ())
    fake.refuses_state = True
    assert kept.restore(1, [*tokens, 97], 0, 40, ()) == 0
    assert (kept.n_bytes, reach(kept, "a" * 41)) == (0, 0)


def size_of_one() -> int:
    fake = backend()
    kept = small(fake)
    keep(kept, fake, "a" * 40)
    return kept.n_bytes


def test_the_one_that_was_used_longest_ago_is_given_up() -> None:
    fake = backend()
    kept = small(fake, size_of_one() * 5 // 2)
    keep(kept, fake, "a" * 40)
    keep(kept, fake, "b" * 40)
    fake.remove(1, 0, None)
    assert kept.restore(1, list(b"a" * 41), 0, 40, ()) == 40
    keep(kept, fake, "c" * 40)
    assert [reach(kept, letter * 41) for letter in "abc"] == [40, 0, 40]


def test_one_that_fits_nowhere_is_not_kept() -> None:
    fake = backend()
    kept = small(fake, size_of_one() - 1)
    keep(kept, fake, "a" * 40)
    assert kept.n_bytes == 0


@pytest.mark.parametrize(("n_uses", "found"), [(0, [0, 40]), (1, [0, 40]), (2, [40, 0])])
def test_what_a_longer_one_goes_on_from_is_given_up_before_others_unless_others_use_it(
    n_uses: int, found: list[int]
) -> None:
    fake = backend()
    kept = small(fake, size_of_one() * 7 // 2)
    keep(kept, fake, "a" * 40)
    keep(kept, fake, "b" * 40)
    for _ in range(n_uses):
        fake.remove(1, 0, None)
        kept.restore(1, list(b"a" * 41), 0, 40, ())
    keep(kept, fake, "a" * 44)
    keep(kept, fake, "c" * 40)
    assert [reach(kept, letter * 41) for letter in "ab"] == found


def test_what_a_request_leaves_does_not_take_the_place_of_its_prompt() -> None:
    """The next turn may write its answer otherwise, without what was thought."""
    fake = backend()
    kept = small(fake, size_of_one() * 5 // 2)
    keep(kept, fake, "b" * 40)
    keep(kept, fake, "a" * 40)
    keep(kept, fake, "a" * 44, is_left=True)
    assert [reach(kept, letter * 41) for letter in "ab"] == [40, 0]


def test_there_are_not_too_many_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.text.checkpoints.MOST", 2)
    fake = backend()
    kept = small(fake)
    for letter in "abc":
        keep(kept, fake, letter * 40)
    assert [reach(kept, letter * 41) for letter in "abc"] == [0, 40, 40]


def test_of_a_window_nothing_is_kept_that_lacks_what_the_next_token_sees() -> None:
    fake = backend(cuts=True)
    kept = small(fake, window=16)
    for first, expected in ((0, 40), (24, 40), (25, 0)):
        fill(fake, 0, "a" * 40)
        fake.kv.cells = [cell for cell in fake.kv.cells if cell.position >= first]
        fresh = small(fake, window=16)
        fresh.save(0, list(b"a" * 40), ())
        assert reach(fresh, "a" * 41) == expected
    assert kept.n_bytes == 0


def test_a_state_of_another_length_than_the_tokens_is_not_kept() -> None:
    fake = backend()
    kept = small(fake)
    kept.save(0, [*fill(fake, 0, "a" * 40), 97], ())
    assert kept.n_bytes == 0


def test_of_which_lengths_states_are_kept() -> None:
    fake = backend()
    kept = small(fake)
    prompt = row(range(100))

    def lengths(held: int = 0, *others: list[int]) -> list[int]:
        return kept.lengths(prompt, held, (), map(row, others))

    assert lengths() == [96]
    assert lengths(88) == [96]
    assert lengths(89) == []
    assert lengths(0, [*range(50), 7]) == [50, 96]
    assert lengths(0, [*range(50), 7], [*range(30), 7]) == [50, 96]
    assert lengths(43, [*range(50), 7]) == [96], "too few before the branch"
    assert lengths(0, [*range(90), 7]) == [90], "too few behind it"
    assert lengths(0, prompt) == [96]
    assert kept.lengths(row(range(11)), 0, (), []) == []


def test_where_a_prompt_parts_from_one_that_is_kept() -> None:
    fake = backend()
    kept = small(fake)
    keep(kept, fake, "a" * 40 + "b" * 20)
    prompt = row(b"a" * 40 + b"c" * 30)
    assert kept.lengths(prompt, 0, (), []) == [40, 66]
    assert kept.lengths(prompt, 0, A, []) == [66]
    assert kept.lengths(row(b"a" * 40 + b"b" * 20 + b"c" * 30), 60, (), []) == [86], "it goes on from there"


def test_a_state_that_ends_with_an_image_is_known_by_its_position_and_counted_in_cells() -> None:
    """With M-RoPE all cells of an image are at the first of its positions."""
    image = chunk("x", 6, 10, flat=True)
    fake = backend()
    kept = small(fake)
    tokens = row([*STORY.encode(), *image.tokens()])
    fill(fake, 0, STORY)
    fake.kv.cells.append(Cell(image.tokens()[0], len(STORY), {0}, (), 9))
    kept.save(0, tokens, ())
    asked = row([*tokens, *b"and so on"])
    assert kept.reach(asked, 0, ()) == len(STORY) + 6
    assert kept.needed(asked, 0, ()) == len(STORY) + 10
