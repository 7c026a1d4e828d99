"""LoRA adapters and control vectors on the tiny model: what they do, and which files are refused."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ModelLoadError, NativeError
from engine.native.options import AdapterOptions, ContextOptions, ModelOptions, Scaled
from engine.text.adapters import AdapterSet
from engine.text.backend import DecodeStatus, Run
from engine.text.llama_backend import LlamaBackend
from tests.models.tiny_adapters import write_tiny_control_vector, write_tiny_lora
from tests.models.tiny_llm import N_EMBD, N_LAYER, write_tiny_llm

PROMPT = list(range(300, 340))
type Load = Callable[..., LlamaBackend]


@pytest.fixture
def load(tiny_model: Path) -> Load:
    """Loads the tiny model, or ``path``, with adapters; all are closed at the end."""
    backends: list[LlamaBackend] = []

    def load(path: Path = tiny_model, **adapters: object) -> LlamaBackend:
        context = ContextOptions(n_ctx=512, n_batch=256, n_ubatch=64, n_seq_max=4)
        backend = LlamaBackend(ModelOptions(path=str(path)), context, adapters=AdapterOptions(**adapters))
        backends.append(backend)
        return backend

    yield load
    for backend in backends:
        backend.close()


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scaled, Scaled]:
    folder = tmp_path_factory.mktemp("loras")
    return (
        Scaled(str(write_tiny_lora(folder / "a.gguf", seed=1))),
        Scaled(str(write_tiny_lora(folder / "b.gguf", seed=2, embeddings=True))),
    )


def logits(backend: LlamaBackend, adapters: AdapterSet = ()) -> NDArray[np.float32]:
    backend.set_adapters(adapters)
    assert backend.decode([Run(0, 0, PROMPT, True)]) is DecodeStatus.OK
    row = backend._context.logits_row(len(PROMPT) - 1).copy()
    backend.remove(0, 0, None)
    return row


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max())


# --- LoRA ---


def test_each_set_computes_something_of_its_own(load: Load, loras: tuple[Scaled, ...]) -> None:
    backend = load(loras=loras)
    assert backend.info.loras == tuple(lora.path for lora in loras)
    sets: list[AdapterSet] = [(), ((0, 1.0),), ((1, 1.0),), ((0, 1.0), (1, 1.0)), ((0, -1.0),), ((0, 0.5),)]
    rows = [logits(backend, used) for used in sets]
    assert all(distance(a, b) > 0.1 for i, a in enumerate(rows) for b in rows[:i])
    again = [logits(backend, used) for used in reversed(sets)]
    assert all(np.array_equal(a, b) for a, b in zip(rows, reversed(again), strict=True)), "nothing of a set is left"


def test_without_a_set_the_model_is_itself(load: Load, loras: tuple[Scaled, ...]) -> None:
    assert np.array_equal(logits(load(loras=loras)), logits(load()))


def test_a_switch_without_a_decode_in_between_counts(load: Load, loras: tuple[Scaled, ...]) -> None:
    backend = load(loras=loras)
    a = logits(backend, ((0, 1.0),))
    for adapter in (1, 0, 1):
        backend.set_adapters(((adapter, 1.0),))
    assert np.array_equal(logits(backend, ((0, 1.0),)), a)


def test_closing_frees_adapters_once_and_computes_no_more(load: Load, loras: tuple[Scaled, ...]) -> None:
    backend = load(loras=loras)
    backend.set_adapters(((0, 1.0),))
    adapter = backend._loras[0]
    adapter.close()
    adapter.close()
    with pytest.raises(NativeError, match="closed"):
        backend.set_adapters(((0, 0.5),))
    backend.set_adapters(())
    backend.close()
    with pytest.raises(NativeError, match="closed"):
        backend.set_adapters(())


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> Scaled:
    path.write_bytes(change(write_tiny_lora(path).read_bytes()))
    return Scaled(str(path))


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


def entry(key: str, kind: int) -> bytes:
    """How the file writes a key with the type of its value."""
    return key.encode() + kind.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"", "truncated"),
        (lambda data: data[:3], "truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:-5000], "not within the file bounds"),
        (lambda data: b"PK\3\4" + data[4:], "not a GGUF file"),
        (lambda data: data[:4] + b"\x09" + data[5:], "version 9"),
        (replaced(b"\0adapter.type", b"\0adapter.typo"), "adapter.type is ''"),
        (replaced(b"lora\x12\0", b"dora\x12\0"), "adapter.type is 'dora'"),
        (replaced(entry("adapter.lora.alpha", 6), entry("adapter.lora.alpha", 4)), "alpha is .*, not a number"),
        (replaced(entry("adapter.type", 8), entry("adapter.type", 9)), "truncated|unknown type"),
        (replaced(np.float32(8).tobytes(), np.float32("nan").tobytes()), "alpha is nan"),
        (replaced(b"blk.1.attn_q", b"blk.7.attn_q"), "does not exist in base model"),
        (replaced(b"lora_b", b"lora_c"), "unexpected suffix"),
    ],
)
def test_damaged_and_foreign_files_are_refused_by_name(
    load: Load, tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    lora = rewritten(tmp_path / "bad.gguf", change)
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load(loras=(lora,))
    assert lora.path in str(caught.value)


def test_a_missing_file_is_named(load: Load, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.gguf", tmp_path, "a\0b"):
        with pytest.raises(ModelLoadError, match="cannot load"):
            load(loras=(Scaled(str(path)),))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architecture": "qwen2"}, "arch mismatch"),
        ({"n_embd": 32}, "incorrect shape"),
        ({"activated": True}, "aLoRA"),
    ],
)
def test_adapters_of_other_kinds_are_refused(load: Load, tmp_path: Path, fields: dict, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        load(loras=(Scaled(str(write_tiny_lora(tmp_path / "other.gguf", **fields))),))


def written(path: Path, **tensors: NDArray) -> Scaled:
    """A LoRA with other tensors; a name's dots are written as double underscores."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    for name, values in tensors.items():
        writer.add_tensor(name.replace("__", "."), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Scaled(str(path))


def test_what_would_end_the_process_in_a_decode_is_refused(load: Load, tmp_path: Path) -> None:
    one, name = np.ones((4, N_EMBD), np.float32), "blk__0__attn_q__weight__lora_"
    for a, b in ((np.ones((3, 4, N_EMBD), np.float32), one.T.copy()), (one.astype(np.int32), one.T.copy())):
        with pytest.raises(ModelLoadError, match=r"shape|cannot be multiplied"):
            load(loras=(written(tmp_path / "x.gguf", **{f"{name}a": a, f"{name}b": b}),))
    with pytest.raises(ModelLoadError, match="no tensors"):
        load(loras=(written(tmp_path / "empty.gguf"),))


def test_embeddings_that_are_the_output_too_cannot_be_changed(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tensor = gguf.GGUFWriter.add_tensor

    def without_output(self: gguf.GGUFWriter, name: str, *args: object) -> None:
        if name != "output.weight":
            add_tensor(self, name, *args)

    with monkeypatch.context() as patched:
        patched.setattr(gguf.GGUFWriter, "add_tensor", without_output)
        tied = write_tiny_llm(tmp_path / "tied.gguf")
    lora = Scaled(str(write_tiny_lora(tmp_path / "lora.gguf", embeddings=True)))
    with pytest.raises(ModelLoadError, match="uses for its output too"):
        load(tied, loras=(lora,))
    load(tied, loras=(Scaled(str(write_tiny_lora(tmp_path / "plain.gguf"))),))


# --- control vectors ---


def vector(path: Path, **fields: object) -> Scaled:
    return Scaled(str(write_tiny_control_vector(path, **fields)))


def test_a_control_vector_changes_what_is_computed(load: Load, tmp_path: Path) -> None:
    base = logits(load())
    file = vector(tmp_path / "v.gguf")
    once = logits(load(control_vectors=(file,)))
    assert distance(base, once) > 0.1
    assert np.array_equal(logits(load(control_vectors=(Scaled(file.path, 0.0),))), base)
    assert distance(logits(load(control_vectors=(Scaled(file.path, -1.0),))), once) > 0.1


def test_control_vectors_are_added_up_with_their_scales(load: Load, tmp_path: Path) -> None:
    a, b = vector(tmp_path / "a.gguf", seed=1), vector(tmp_path / "b.gguf", seed=2)
    twice = logits(load(control_vectors=(Scaled(a.path, 0.25), b, Scaled(a.path, 0.75))))
    np.testing.assert_allclose(twice, logits(load(control_vectors=(a, b))), atol=1e-3)
    assert distance(twice, logits(load(control_vectors=(a,)))) > 0.1


def test_only_the_layers_of_the_range_change(load: Load, tmp_path: Path) -> None:
    file = vector(tmp_path / "v.gguf")
    assert np.array_equal(
        logits(load(control_vectors=(file,), control_layers=(1, 99))), logits(load(control_vectors=(file,)))
    )
    with pytest.raises(ModelLoadError, match="there is no layer 2"):
        load(control_vectors=(file,), control_layers=(2, 3))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"n_embd": N_EMBD // 2}, r"has the shape \(32,\), the model needs \(64,\)"),
        ({"layers": (N_LAYER,)}, "layers 1 to 1"),
        ({"layers": (0,)}, "layers 1 to 1"),
        ({"layers": ()}, "no directions"),
        ({"scale": np.inf}, "not finite"),
    ],
)
def test_control_vectors_of_other_models_are_refused(load: Load, tmp_path: Path, fields: dict, reason: str) -> None:
    file = vector(tmp_path / "v.gguf", **fields)
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load(control_vectors=(file,))
    assert file.path in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-8], "truncated"),
        (lambda data: data[:40], "truncated"),
        (replaced(b"direction.1", b"director.1x"), "is no direction"),
        (replaced(b"direction.1", b"direction.x"), "is no direction"),
        (replaced(b"\x0d\0\0\0\0\0\0\0controlvector", b"\x0d\0\0\0\0\0\0\0controlvectox"), "its architecture is"),
    ],
)
def test_damaged_control_vectors_are_refused(
    load: Load, tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    file = vector(tmp_path / "v.gguf")
    path = Path(file.path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelLoadError, match=reason):
        load(control_vectors=(file,))


def test_a_lora_is_no_control_vector_and_a_model_is_no_lora(load: Load, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelLoadError, match="architecture is 'llama'"):
        load(control_vectors=(Scaled(str(write_tiny_lora(tmp_path / "lora.gguf"))),))
    with pytest.raises(ModelLoadError, match="type is ''"):
        load(loras=(Scaled(str(tiny_model)),))
