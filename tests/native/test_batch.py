"""Filling a native batch: many rows at once are what run by run gives, and misuse changes nothing."""

import numpy as np
import pytest

from engine.native.batch import Batch
from engine.native.library import load


def batch_of(capacity: int = 8, n_seqs: int = 4) -> Batch:
    return Batch(load(), capacity, n_seqs)


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
