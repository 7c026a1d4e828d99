"""Parts of sequences copied out of the KV cache and into it again."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import NativeError
from engine.native.cells import CellCopier
from engine.text.backend import Run
from engine.text.llama_backend import LlamaBackend
from tests.models.tiny_llm import write_tiny_llm
from tests.native.conftest import MakeBackend

PROMPT = list(range(300, 380))
CLOSE = 0.02  # cells in other places are added up in another order


def after(backend: LlamaBackend, seq: int, prompt: list[int]) -> np.ndarray:
    """The logits behind the last token of a prompt of which the sequence has all before it."""
    backend.decode([Run(seq, len(prompt) - 1, prompt[-1:], True)])
    logits = backend._context.logits_row(0).copy()
    backend.remove(seq, len(prompt) - 1, None)
    return logits


def cells_of(backend: LlamaBackend) -> CellCopier:
    assert backend.cells is not None
    return backend.cells


def assert_scratch_is_empty(backend: LlamaBackend) -> None:
    assert backend._context.memory.span(backend.n_seqs) == (-1, -1)


def test_a_sequence_put_together_of_parts_goes_on_like_the_first(make_backend: MakeBackend) -> None:
    backend = make_backend(copies_cells=True)
    assert backend.n_seqs == 3
    backend.decode([Run(0, 0, PROMPT[:-1], False)])
    expected = after(backend, 0, PROMPT)
    backend.copy(0, 1, 0, 20)
    states = [cells_of(backend).save(0, start, start + 32) for start in (0, 32, 64)]
    backend.remove(0, 0, None)
    assert backend.span(1) == (0, 19)
    cells_of(backend).restore(1, 20, 32, states[0])
    cells_of(backend).restore(1, 32, 64, states[1])
    cells_of(backend).restore(1, 64, len(PROMPT) - 1, states[2])
    assert backend.span(1) == (0, len(PROMPT) - 2)
    assert_scratch_is_empty(backend)
    np.testing.assert_allclose(after(backend, 1, PROMPT), expected, atol=CLOSE)


def test_what_finds_no_room_or_does_not_fit_changes_nothing(make_backend: MakeBackend) -> None:
    backend = make_backend(n_ctx=256, copies_cells=True)
    backend.decode([Run(0, 0, PROMPT * 3, False)])
    state = cells_of(backend).save(0, 40, 80)
    backend.decode([Run(1, 0, [1], False)])
    with pytest.raises(NativeError, match="cannot be restored"):
        cells_of(backend).restore(1, 40, 80, state)
    backend.remove(0, 0, None)
    with pytest.raises(NativeError, match="begins at position 40"):
        cells_of(backend).restore(1, 1, 41, state)
    assert backend.span(1) == (0, 0)
    assert_scratch_is_empty(backend)


@pytest.mark.parametrize(("size", "whole"), [(16, True), (32, False)])
def test_of_a_window_one_block_is_whole_if_it_is_not_longer(
    make_backend: MakeBackend, tmp_path: Path, size: int, whole: bool
) -> None:
    path = write_tiny_llm(tmp_path / "swa.gguf", sliding_window=16)
    backend = make_backend(path=path, swa_full=True, copies_cells=True)
    backend.decode([Run(0, 0, PROMPT[:-1], False)])
    expected = after(backend, 0, PROMPT)
    states = {p0: cells_of(backend).save(0, p0, p0 + size) for p0 in range(0, len(PROMPT) - 1, size)}
    backend.remove(0, 0, None)
    if not whole:
        with pytest.raises(NativeError, match="begins at position"):
            cells_of(backend).restore(1, 0, size, states[0])
        return
    for p0, state in states.items():
        cells_of(backend).restore(1, p0, min(p0 + size, len(PROMPT) - 1), state)
    assert backend.span(1) == (0, len(PROMPT) - 2)
    np.testing.assert_allclose(after(backend, 1, PROMPT), expected, atol=CLOSE)


def test_without_a_sequence_to_spare_there_are_no_copies(make_backend: MakeBackend) -> None:
    backend = make_backend(n_slots=4, copies_cells=True)
    assert backend.cells is None
    assert backend.n_seqs == 4
    assert make_backend().cells is None
