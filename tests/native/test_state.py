"""Sequences copied out of the KV cache and into it, and what tells configurations apart."""

from pathlib import Path

import attrs
import numpy as np
import pytest

from engine.errors import NativeError, StorageError
from engine.native.fingerprint import fingerprint
from engine.native.options import AdapterOptions, CacheType, ContextOptions, ModelOptions, Scaled
from engine.text.backend import Run
from engine.text.identity import identify
from engine.text.llama_backend import LlamaBackend
from tests.models.tiny_adapters import write_tiny_control_vector, write_tiny_lora
from tests.models.tiny_llm import write_tiny_llm
from tests.native.conftest import MakeBackend

PROMPT = list(range(300, 340))
CLOSE = 0.02  # cells in other places are added up in another order


def after(backend: LlamaBackend, seq: int, token: int) -> np.ndarray:
    backend.decode([Run(seq, len(PROMPT), [token], True)])
    return backend._context.logits_row(0).copy()


def test_a_restored_sequence_goes_on_like_the_first(make_backend: MakeBackend) -> None:
    first, second = make_backend(), make_backend(n_ctx=256)
    first.decode([Run(1, 0, PROMPT, False)])
    first.copy(1, 2, 0, 20)
    first.remove(1, 0, 20)
    first.copy(2, 1, 0, 20)  # its cells are no longer in one piece
    state = first.save_state(1)
    second.decode([Run(0, 0, PROMPT[:30], False)])
    second.restore_state(3, state)
    assert second.span(3) == (0, len(PROMPT) - 1)
    np.testing.assert_allclose(after(first, 1, 300), after(second, 3, 300), atol=CLOSE)


def test_a_state_of_another_cache_is_refused_and_leaves_nothing(make_backend: MakeBackend) -> None:
    first, second = make_backend(), make_backend(cache_type_k=CacheType.F32)
    first.decode([Run(0, 0, PROMPT, False)])
    with pytest.raises(NativeError, match="cannot be restored"):
        second.restore_state(0, first.save_state(0))
    assert second.span(0) == (-1, -1)
    second.decode([Run(0, 0, PROMPT, True)])


def test_a_state_that_finds_no_room_leaves_nothing(make_backend: MakeBackend) -> None:
    backend = make_backend(n_ctx=256)
    backend.decode([Run(0, 0, PROMPT * 5, False)])
    state = backend.save_state(0)
    with pytest.raises(NativeError, match="cannot be restored"):
        backend.restore_state(1, state)
    assert backend.span(1) == (-1, -1)
    assert backend.span(0) == (0, 199)


@pytest.mark.parametrize("seq", [-1, 4, 256])
def test_ids_that_do_not_exist_are_refused(make_backend: MakeBackend, seq: int) -> None:
    backend = make_backend()
    with pytest.raises(ValueError, match="out of range"):
        backend.save_state(seq)
    with pytest.raises(ValueError, match="out of range"):
        backend.restore_state(seq, b"state")


def test_a_full_window_cannot_be_copied(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_llm(tmp_path / "swa.gguf", sliding_window=32)
    assert not make_backend(path=path, swa_full=True).info.can_copy_state
    assert make_backend(path=path).info.can_copy_state
    assert make_backend(path=write_tiny_llm(tmp_path / "state.gguf", recurrent=True)).info.can_copy_state
    assert make_backend().info.can_copy_state


# --- fingerprints ---


def test_any_part_of_a_large_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    data = bytearray(range(256)) * 40_000
    path.write_bytes(data)
    seen = {fingerprint(str(path))}
    for position in (0, len(data) // 2, len(data) - 1):
        data[position : position + 300_000] = bytes(300_000)[: len(data) - position]
        path.write_bytes(data)
        seen.add(fingerprint(str(path)))
    path.write_bytes(data + b"x")
    seen.add(fingerprint(str(path)))
    assert len(seen) == 5


def test_all_parts_of_a_split_model_count(tmp_path: Path) -> None:
    first, second = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    before = fingerprint(str(first))
    second.write_bytes(b"twe")
    assert fingerprint(str(first)) != before


def test_what_the_cells_depend_on_and_nothing_else_makes_another_identity(tmp_path: Path, tiny_model: Path) -> None:
    model, context = ModelOptions(path=str(tiny_model)), ContextOptions()
    vector = Scaled(str(write_tiny_control_vector(tmp_path / "v.gguf")))
    base = identify(model, context, AdapterOptions())
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    same = [
        identify(attrs.evolve(model, path=str(copy), n_gpu_layers=3), context, AdapterOptions()),
        identify(model, attrs.evolve(context, n_ctx=1, n_threads=9, n_batch=5, n_seq_max=7), AdapterOptions()),
    ]
    others = [
        identify(ModelOptions(path=str(write_tiny_llm(tmp_path / "m.gguf", seed=1))), context, AdapterOptions()),
        identify(attrs.evolve(model, metadata_overrides=(("a", 1),)), context, AdapterOptions()),
        identify(model, attrs.evolve(context, cache_type_v=CacheType.Q8_0), AdapterOptions()),
        identify(model, attrs.evolve(context, rope_freq_base=5e5), AdapterOptions()),
        identify(model, context, AdapterOptions(control_vectors=(vector,))),
        identify(model, context, AdapterOptions(control_vectors=(Scaled(vector.path, 2.0),))),
        identify(model, context, AdapterOptions(control_vectors=(vector,), control_layers=(1, 1))),
    ]
    assert all(identity == base for identity in same)
    assert len({base.model, *(identity.model for identity in others)}) == 1 + len(others)


def test_adapters_are_told_apart_by_their_files(tmp_path: Path, tiny_model: Path) -> None:
    files = [Scaled(str(write_tiny_lora(tmp_path / f"{seed}.gguf", seed=seed))) for seed in (1, 2, 1)]
    a, b, _ = identify(
        ModelOptions(path=str(tiny_model)), ContextOptions(), AdapterOptions(loras=tuple(files))
    ).adapters
    assert a != b


def test_a_file_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.gguf"):
        identify(ModelOptions(path=str(tmp_path / "gone.gguf")), ContextOptions(), AdapterOptions())
