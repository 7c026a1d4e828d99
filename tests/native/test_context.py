"""Decoding and the KV cache through the backend, and what must be refused before it kills the process."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ModelLoadError, NativeError
from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import CacheType, ContextOptions, FlashAttention, ModelOptions
from engine.text.backend import DecodeStatus, Run
from engine.text.llama_backend import LlamaBackend
from tests.models.tiny_llm import N_VOCAB, write_tiny_llm
from tests.native.conftest import MakeBackend

PROMPT = list(range(300, 340))
CLOSE = 0.02  # other batch sizes round otherwise; different prompts differ by more than 1


def logits(backend: LlamaBackend, index: int) -> NDArray[np.float32]:
    return backend._context.logits_row(index).copy()


def prefill(backend: LlamaBackend, seq: int, tokens: list[int]) -> NDArray[np.float32]:
    assert backend.decode([Run(seq, 0, tokens, True)]) is DecodeStatus.OK
    return logits(backend, len(tokens) - 1)


def test_sizes_are_read_back(make_backend: MakeBackend) -> None:
    info = make_backend(n_ctx=100, n_batch=2048, n_ubatch=512, n_slots=2).info
    assert info.n_ctx == 256  # the library pads
    assert info.n_batch == info.n_ubatch == 100  # clamped before that
    assert info.n_ctx_slot == 128
    assert info.can_shift


@pytest.mark.parametrize(("n_ctx", "n_batch"), [(256, 8), (10, 512)])
def test_there_may_be_more_sequences_than_tokens_in_a_batch(
    make_backend: MakeBackend, n_ctx: int, n_batch: int
) -> None:
    backend = make_backend(n_ctx=n_ctx, n_batch=n_batch, n_ubatch=n_batch, n_seq_max=25)
    assert backend.info.n_batch == min(n_ctx, n_batch) < backend.n_seqs == 25
    runs = [Run(seq, 0, [300], True) for seq in range(17, 25)]
    assert backend.decode(runs) is DecodeStatus.OK
    assert np.array_equal(logits(backend, 0), logits(backend, 7))


def test_context_of_the_models_own_size(make_backend: MakeBackend) -> None:
    assert make_backend(n_ctx=0).info.n_ctx == 4096


def test_decoding_is_deterministic(make_backend: MakeBackend) -> None:
    first, second = prefill(make_backend(), 0, PROMPT), prefill(make_backend(), 0, PROMPT)
    assert np.array_equal(first, second)
    assert np.isfinite(first).all()
    assert first.shape == (N_VOCAB,)
    assert not np.array_equal(first, prefill(make_backend(), 0, PROMPT[::-1]))


def test_runs_of_several_sequences_share_a_batch(backend: LlamaBackend) -> None:
    alone = prefill(backend, 0, PROMPT)
    other = prefill(backend, 1, PROMPT[::-1])
    backend.remove(0, 0, None)
    backend.remove(1, 0, None)
    runs = [Run(0, 0, PROMPT, True), Run(2, 0, [7], False), Run(1, 0, PROMPT[::-1], True)]
    assert backend.decode(runs) is DecodeStatus.OK
    np.testing.assert_allclose(logits(backend, 39), alone, atol=CLOSE)
    np.testing.assert_allclose(logits(backend, 80), other, atol=CLOSE)
    with pytest.raises(ValueError, match="no logits"):
        backend._context.logits_row(40)  # its run asked for none


@pytest.mark.parametrize("index", [-1, 0, 40, 100000])
def test_logits_that_do_not_exist_are_refused(backend: LlamaBackend, index: int) -> None:
    prefill(backend, 0, PROMPT)
    with pytest.raises(ValueError, match="no logits"):
        backend._context.logits_row(index)


def test_copied_prefix_gives_the_same_logits(backend: LlamaBackend) -> None:
    prefill(backend, 0, PROMPT)
    backend.copy(0, 1, 0, 20)
    assert backend.span(1) == (0, 19)
    runs = [Run(1, 20, PROMPT[20:], True)]
    assert backend.decode(runs) is DecodeStatus.OK
    whole = logits(backend, 19)
    backend.remove(1, 0, None)
    np.testing.assert_allclose(prefill(backend, 1, PROMPT), whole, atol=CLOSE)


def test_spans_follow_removal_and_shift(backend: LlamaBackend) -> None:
    assert backend.span(0) == (-1, -1)
    prefill(backend, 0, PROMPT)
    assert backend.span(0) == (0, 39)
    backend.remove(0, 30, None)
    assert backend.span(0) == (0, 29)
    backend.remove(0, 10, 20)
    backend.shift(0, 20, None, -10)
    assert backend.span(0) == (0, 19)
    assert backend.decode([Run(0, 20, [300], True)]) is DecodeStatus.OK
    backend.remove(0, 0, None)
    assert backend.span(0) == (-1, -1)


def test_shift_moves_the_rotation_too(backend: LlamaBackend) -> None:
    backend.decode([Run(0, 10, PROMPT, False)])
    backend.shift(0, 0, None, -10)
    backend.decode([Run(0, 40, [301], True)])
    shifted = logits(backend, 0)
    backend.remove(0, 0, None)
    backend.decode([Run(0, 0, [*PROMPT, 301], True)])
    np.testing.assert_allclose(shifted, logits(backend, 40), atol=CLOSE)


def test_full_cache_is_a_status_and_changes_nothing(make_backend: MakeBackend) -> None:
    backend = make_backend(n_ctx=256)
    assert backend.decode([Run(0, 0, [300] * 200, False)]) is DecodeStatus.OK
    assert backend.decode([Run(1, 0, [300] * 100, False)]) is DecodeStatus.NO_ROOM
    assert backend.span(1) == (-1, -1)
    assert backend.span(0) == (0, 199)


def test_abort_stays_until_it_is_cleared(backend: LlamaBackend) -> None:
    thread = threading.Thread(target=backend.abort)
    thread.start()
    thread.join()
    assert backend.decode([Run(0, 0, PROMPT, True)]) is DecodeStatus.ABORTED
    assert backend.decode([Run(0, 0, PROMPT, True)]) is DecodeStatus.ABORTED
    assert backend.span(0) == (-1, -1)
    backend.clear_abort()
    assert backend.decode([Run(0, 0, PROMPT, True)]) is DecodeStatus.OK


@pytest.mark.parametrize("kv_unified", [True, False])
def test_an_abort_leaves_no_position_half_moved(make_backend: MakeBackend, kv_unified: bool) -> None:
    expected, aborted = (make_backend(kv_unified=kv_unified) for _ in range(2))
    for backend in (expected, aborted):
        prefill(backend, 0, PROMPT)
        backend.remove(0, 4, 14)
        backend.shift(0, 14, None, -10)
    aborted.abort()
    status = aborted.decode([Run(1, 0, PROMPT, False)])
    aborted.clear_abort()
    assert status is DecodeStatus.OK, "what moves positions is not stopped"
    assert expected.decode([Run(1, 0, PROMPT, False)]) is DecodeStatus.OK
    for backend in (expected, aborted):
        assert backend.decode([Run(0, 30, [340], True)]) is DecodeStatus.OK
    np.testing.assert_array_equal(logits(aborted, 0), logits(expected, 0))
    aborted.abort()
    assert aborted.decode([Run(1, 40, PROMPT, False)]) is DecodeStatus.ABORTED, "the next one is"


def test_an_abort_is_no_warning(backend: LlamaBackend, caplog: pytest.LogCaptureFixture) -> None:
    backend.abort()
    assert backend.decode([Run(0, 0, PROMPT, True)]) is DecodeStatus.ABORTED
    backend.clear_abort()
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_warmup_leaves_nothing_behind(backend: LlamaBackend) -> None:
    backend.warmup()
    assert [backend.span(seq) for seq in range(backend.n_seqs)] == [(-1, -1)] * 4


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [Run(0, 0, [], True)],
        [Run(0, 0, [300] * 257, True)],
        [Run(0, 0, [300] * 200, True), Run(1, 0, [300] * 57, True)],
        [Run(4, 0, [300], True)],
        [Run(-1, 0, [300], True)],
        [Run(256, 0, [300], True)],
        [Run(0, -1, [300], True)],
        [Run(0, 2**31 - 1, [300], True)],
        [Run(0, 0, [N_VOCAB], True)],
        [Run(0, 0, [-1], True)],
        [Run(0, 0, [2**40], True)],
    ],
)
def test_batches_that_would_kill_are_refused(backend: LlamaBackend, runs: list[Run]) -> None:
    with pytest.raises(ValueError, match=r"token|batch|range"):
        backend.decode(runs)
    prefill(backend, 0, PROMPT)  # and the backend still works


def test_inconsistent_positions_are_a_native_error(backend: LlamaBackend) -> None:
    prefill(backend, 0, PROMPT)
    with pytest.raises(NativeError, match="-1"):
        backend.decode([Run(0, 10, [300], True)])
    assert backend.span(0) == (0, 39)


@pytest.mark.parametrize("seq", [-2, -1, 4, 256, 2**31])
def test_sequences_out_of_range_are_refused(backend: LlamaBackend, seq: int) -> None:
    for call in (
        lambda: backend.copy(seq, 0, 0, 1),
        lambda: backend.copy(0, seq, 0, 1),
        lambda: backend.remove(seq, 0, None),
        lambda: backend.shift(seq, 0, None, 1),
        lambda: backend.span(seq),
    ):
        with pytest.raises(ValueError, match="out of range"):
            call()


def test_ranges_out_of_order_are_refused(backend: LlamaBackend) -> None:
    with pytest.raises(ValueError, match="range"):
        backend.remove(0, 5, 4)
    with pytest.raises(ValueError, match="range"):
        backend.copy(0, 1, -1, 4)
    with pytest.raises(ValueError, match="cannot move"):
        backend.shift(0, 5, None, -6)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"n_seq_max": 257}, "256"),
        ({"n_seq_max": 0}, "sequences"),
        ({"n_batch": 0}, "positive"),
        ({"n_ctx": -1}, "positive"),
        ({"rope_scaling": "cubic"}, "cubic"),
        ({"cache_type_v": CacheType.Q8_0, "flash_attention": FlashAttention.OFF}, "flash"),
    ],
)
def test_contexts_that_cannot_be_are_refused(
    make_backend: MakeBackend, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        make_backend(**options)


def test_sliding_window_forgets_unless_full(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "swa.gguf", sliding_window=16)
    firsts = []
    for swa_full in (False, True):
        backend = make_backend(path=path, swa_full=swa_full, n_ctx=1024)
        for start in range(0, 800, 40):
            assert backend.decode([Run(0, start, PROMPT, False)]) is DecodeStatus.OK
        firsts.append(backend.span(0)[0])
    assert firsts[0] > 0
    assert firsts[1] == 0


@pytest.mark.parametrize("how", ["computed", "copied", "restored"])
def test_a_full_window_is_kept_while_others_come_and_go(how: str, make_backend: MakeBackend, tmp_path: Path) -> None:
    """What the next token does not see is free for the library, of whoever holds it alone."""
    path = write_tiny_llm(tmp_path / "swa.gguf", sliding_window=16)
    backend = make_backend(path=path, swa_full=True, n_ctx=512)
    seq = 0
    prefill(backend, 3, PROMPT)  # in front of it, so that the library comes by
    prefill(backend, 0, PROMPT)
    if how == "copied":
        seq = 1
        backend.copy(0, 1, 0, 40)
        backend.remove(0, 0, None)
    elif how == "restored":
        state = backend.save_state(0)
        backend.remove(0, 0, None)
        backend.restore_state(0, state)
    backend.remove(3, 0, None)
    held = backend.span(seq)
    for start in range(0, 440, 40):
        assert backend.decode([Run(2, start, PROMPT, False)]) is DecodeStatus.OK
    assert backend.span(seq) == held
    assert held == (0 if how != "restored" else 24, 39)
    backend.remove(seq, 0, None)
    assert backend.span(seq) == (-1, -1)


def test_an_abort_leaves_whole_ubatches_of_a_full_window(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "swa.gguf", sliding_window=16)
    backend = make_backend(path=path, swa_full=True, n_ctx=512)
    prefill(backend, 1, PROMPT)
    wanted = prefill(backend, 2, [*PROMPT, *PROMPT])
    backend.abort()
    assert backend.decode([Run(0, 0, PROMPT, False), Run(1, 40, PROMPT, False)]) is DecodeStatus.ABORTED
    backend.clear_abort()
    assert [backend.span(seq) for seq in (0, 1)] == [(-1, -1), (0, 39)]
    assert backend.decode([Run(1, 40, PROMPT, True)]) is DecodeStatus.OK
    assert np.abs(logits(backend, 39) - wanted).max() < CLOSE


def test_everything_closed_refuses_politely(backend: LlamaBackend) -> None:
    backend.close()
    backend.close()
    with pytest.raises(NativeError, match="closed"):
        backend.decode([Run(0, 0, PROMPT, True)])
    with pytest.raises(NativeError, match="closed"):
        backend.span(0)


def test_closing_the_model_closes_its_contexts(tiny_model: Path) -> None:
    model = Model(ModelOptions(path=str(tiny_model)))
    context = Context(model, ContextOptions(n_ctx=256))
    model.close()
    assert context.handle is None
    context.close()
    with pytest.raises(ModelLoadError, match="closed"):
        Context(model, ContextOptions(n_ctx=256))
