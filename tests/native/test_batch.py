"""Filling a native batch: many rows at once are what run by run gives, and misuse changes nothing."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from engine.native.batch import Batch
from engine.native.library import load
from engine.text.backend import DecodeStatus, Run
from engine.text.tokens import row
from tests.native.conftest import MakeBackend


def batch_of(capacity: int = 8, n_seqs: int = 4) -> Batch:
    return Batch(load(), capacity, np.arange(n_seqs, dtype=np.int32).reshape(-1, 1))


def content(batch: Batch) -> list[tuple[int, int, int, int, int]]:
    """What the library reads: token, position, number of ids, id and wish for logits of each row."""
    native = batch.native
    return [
        (native.token[i], native.pos[i], native.n_seq_id[i], native.seq_id[i][0], native.logits[i])
        for i in range(native.n_tokens)
    ]


def test_many_rows_at_once_are_what_they_are_one_by_one() -> None:
    rows = [(3, 70, 500, True), (0, 0, 7, False), (2, 9, 31_999, True)]
    at_once, one_by_one = batch_of(), batch_of()
    for batch in (at_once, one_by_one):
        batch.add_run(1, 5, [40, 41], logits=True)
    at_once.add_rows(*map(list, zip(*rows, strict=True)))
    for seq, position, token, logits in rows:
        one_by_one.add_run(seq, position, [token], logits=logits)
    assert content(at_once) == content(one_by_one)
    assert content(at_once)[2:] == [(500, 70, 1, 3, 1), (7, 0, 1, 0, 0), (31_999, 9, 1, 2, 1)]
    assert at_once.outputs == [1, 2, 4]


@pytest.mark.parametrize(
    ("seqs", "positions", "tokens", "message"),
    [
        ([0, 4], [0, 0], [1, 1], r"0 to 3"),
        ([0, -1], [0, 0], [1, 1], r"0 to 3"),
        ([0, 1], [0, -1], [1, 1], "position"),
        ([0, 1], [0, 0], [1, 1 << 31], "32 bits"),
        ([0, 1], [0, 1 << 40], [1, 1], "32 bits"),
        ([0] * 9, [0] * 9, [1] * 9, "takes 8 tokens, not 10"),
    ],
)
def test_rows_that_do_not_fit_change_nothing(
    seqs: list[int], positions: list[int], tokens: list[int], message: str
) -> None:
    batch = batch_of(n_seqs=4)
    batch.add_run(2, 3, [40], logits=True)
    with pytest.raises(ValueError, match=message):
        batch.add_rows(seqs, positions, tokens, [True] * len(seqs))
    assert content(batch) == [(40, 3, 1, 2, 1)]
    batch.clear()
    assert len(batch) == 0
    batch.add_rows([0], [0], [9], [np.True_])
    assert content(batch) == [(9, 0, 1, 0, 1)]


@pytest.mark.parametrize("kind", [list, row])
@pytest.mark.parametrize("token", [1 << 31, -(1 << 31) - 1, (1 << 32) + 7])
def test_a_run_with_a_token_of_more_than_32_bits_changes_nothing(
    kind: Callable[[list[int]], Sequence[int]], token: int
) -> None:
    """Those of a row would be cut to 32 bits without a word."""
    batch = batch_of()
    batch.add_run(2, 3, [40], logits=True)
    with pytest.raises(ValueError, match="32 bits"):
        batch.add_run(1, 0, kind([5, token]), logits=True)
    assert content(batch) == [(40, 3, 1, 2, 1)]


@pytest.mark.parametrize("n_streams", [3, 6])
def test_streams_that_are_decoded_together_are_what_each_is_alone(make_backend: MakeBackend, n_streams: int) -> None:
    """Below four they are put into the batch one by one, from then on all at once; the last one has two tokens."""
    together, alone = make_backend(n_slots=8, n_seq_max=8), make_backend(n_slots=8, n_seq_max=8)
    prompts = [[5 + seq, 9, 30 + seq] for seq in range(n_streams)]
    ends = [[40 + seq] for seq in range(n_streams - 1)] + [[7, 8]]
    for seq, prompt in enumerate(prompts):
        for backend in (together, alone):
            assert backend.decode([Run(seq, 0, prompt, False)]) is DecodeStatus.OK
    together.decode([Run(seq, 3, end, True) for seq, end in enumerate(ends)])
    rows = [together._context.logits_row(seq + (seq == n_streams - 1)).copy() for seq in range(n_streams)]
    for seq, end in enumerate(ends):
        alone.decode([Run(seq, 3, end, True)])
        np.testing.assert_allclose(rows[seq], alone._context.logits_row(len(end) - 1), rtol=0, atol=1e-3)
    assert not np.allclose(rows[0], rows[1], atol=1e-2), "the streams are not told apart"
