"""Decode steps with a row of nothing: the same tokens, nothing of it stays, and it never takes another one's room."""

import attrs
import numpy as np
import pytest

from engine.native.context import Context
from engine.text.backend import DecodeStatus, Run
from engine.text.llama_backend import LlamaBackend
from engine.text.requests import SamplingParams
from engine.text.row_padding import RowPadding
from tests.native.conftest import MakeBackend

PROMPTS = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16]]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each decode, in order; every step that may be padded is."""
    monkeypatch.setattr(RowPadding, "pads", lambda self, n_rows: n_rows == len(PROMPTS))
    sizes: list[int] = []
    plain = Context.decode

    def watched(self: Context, batch: object) -> int:
        sizes.append(len(batch))  # type: ignore[arg-type]
        return plain(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Context, "decode", watched)
    return sizes


def write(backend: LlamaBackend, steps: int) -> list[list[int]]:
    """The most probable tokens after each prompt, all of them computed together."""
    sampler = backend.create_sampler(SamplingParams(temperature=0.0, ignore_eos=True))
    found: list[list[int]] = [[] for _ in PROMPTS]
    runs = [Run(seq, 0, prompt, True) for seq, prompt in enumerate(PROMPTS)]
    for step in range(steps):
        assert backend.decode(runs) is DecodeStatus.OK
        ends = np.cumsum([len(run.tokens) for run in runs]) - 1
        for seq, end in enumerate(ends):
            found[seq].append(sampler.sample(int(end))[0])
        runs = [Run(seq, len(p) + step, [found[seq][-1]], True) for seq, p in enumerate(PROMPTS)]
    sampler.close()
    return found


def test_it_changes_no_token_and_leaves_nothing(make_backend: MakeBackend, batches: list[int]) -> None:
    plain = write(make_backend(n_seq_max=3), 20)  # no sequence is left for it
    assert set(batches) == {12, 3}
    del batches[:]
    backend = make_backend(n_seq_max=5, copies_cells=True)
    assert write(backend, 20) == plain
    assert batches == [12, *[4] * 19]
    assert backend.n_seqs == 4
    assert [backend.span(seq) for seq in range(5)] == [
        *((0, len(prompt) + 18) for prompt in PROMPTS),
        (-1, -1),
        (-1, -1),
    ]


def test_where_there_is_no_cell_for_it_there_is_none(make_backend: MakeBackend, batches: list[int]) -> None:
    backend = make_backend(n_ctx=256, n_seq_max=5, copies_cells=True)
    full = [Run(seq, 0, [7] * (84 if seq else 85), logits=True) for seq in range(3)]
    for run in full:
        assert backend.decode([run]) is DecodeStatus.OK
    del batches[:]
    rows = [Run(seq, len(run.tokens), [8], logits=True) for seq, run in enumerate(full)]
    assert backend.decode(rows) is DecodeStatus.OK, "256 cells, all of them used now"
    assert batches == [4, 3]
    assert backend.span(4) == (-1, -1)


def test_an_abort_leaves_nothing_of_it(make_backend: MakeBackend, batches: list[int]) -> None:
    backend = make_backend(n_seq_max=5, copies_cells=True)
    write(backend, 2)
    backend.abort()
    rows = [Run(seq, len(prompt) + 1, [8], logits=True) for seq, prompt in enumerate(PROMPTS)]
    assert backend.decode(rows) is DecodeStatus.ABORTED
    backend.clear_abort()
    assert batches[-1] == 4
    assert backend.span(4) == (-1, -1)
    assert backend.decode(rows) is DecodeStatus.OK


def test_a_full_batch_has_no_room_for_it(make_backend: MakeBackend, batches: list[int]) -> None:
    backend = make_backend(n_batch=12, n_ubatch=12, n_seq_max=5, copies_cells=True)
    assert backend.info.n_batch == 12
    write(backend, 3)
    backend.info = attrs.evolve(backend.info, n_batch=3)
    del batches[:]
    rows = [Run(seq, len(prompt) + 2, [8], logits=True) for seq, prompt in enumerate(PROMPTS)]
    assert backend.decode(rows) is DecodeStatus.OK
    assert batches == [3]
