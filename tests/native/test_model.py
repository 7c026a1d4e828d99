"""Loading: good files, bad files, options."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from engine.errors import ModelLoadError
from engine.native.model import Model
from engine.native.options import ModelOptions
from tests.models.tiny_llm import CHAT_TEMPLATE, N_EMBD, N_VOCAB, write_tiny_llm
from tests.models.tiny_sd import write_image_gguf, write_safetensors


def load(path: Path, **options: object) -> Model:
    return Model(ModelOptions(path=str(path), **options))


def test_facts_of_the_file(tiny_model: Path) -> None:
    model = load(tiny_model)
    facts = model.facts()
    model.close()
    assert facts.architecture == "llama"
    assert facts.n_ctx_train == 4096
    assert facts.n_embd == N_EMBD
    assert facts.n_swa == 0
    assert not facts.is_recurrent
    assert not facts.has_encoder
    assert facts.chat_template == CHAT_TEMPLATE
    assert facts.tool_template is None
    assert facts.metadata["general.name"] == "tiny-llm"
    # Longer than the first buffer that the text is read into.
    assert facts.metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert facts.size > N_VOCAB * N_EMBD * 4


def test_fixture_is_deterministic(tmp_path: Path) -> None:
    one = write_tiny_llm(tmp_path / "one.gguf", seed=3).read_bytes()
    two = write_tiny_llm(tmp_path / "two.gguf", seed=3).read_bytes()
    other = write_tiny_llm(tmp_path / "other.gguf", seed=4).read_bytes()
    assert one == two != other


def test_sliding_window_model_loads(tmp_path: Path) -> None:
    model = load(write_tiny_llm(tmp_path / "swa.gguf", sliding_window=32))
    assert model.facts().n_swa == 32
    model.close()


def test_close_is_idempotent_and_ends_the_vocabulary(tiny_model: Path) -> None:
    model = load(tiny_model)
    model.close()
    model.close()
    assert model.closed
    with pytest.raises(ValueError, match="closed"):
        model.vocab.tokenize("text", add_special=False, parse_special=False)
    with pytest.raises(ValueError, match="closed"):
        model.vocab.piece(5, special=False)


def write_foreign(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "no-such-architecture")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GGU", "not a GGUF"),
        (b"PK\3\4 a zip file, say", "not a GGUF"),
        (b"GGUF\3\0\0\0", "truncated"),
        (b"GGUF" + b"\xff" * 60, "version"),
        (b"GGUF\3\0\0\0" + b"\xff" * 60, "number|invalid|failed"),
    ],
)
def test_bad_files_are_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_foreign_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.gguf"
    write_foreign(path)
    with pytest.raises(ModelLoadError, match="no-such-architecture"):
        load(path)


def test_image_models_are_told_where_they_belong(tmp_path: Path) -> None:
    weights = write_safetensors(tmp_path / "x.safetensors", {"a": np.ones(4)})
    with pytest.raises(ModelLoadError, match=r"x\.safetensors: it is a safetensors file.*--images"):
        load(weights)
    with pytest.raises(ModelLoadError, match=r"'flux'.*; if it is an image model: --images serves it"):
        load(write_image_gguf(tmp_path / "flux.gguf"))
    foreign = tmp_path / "foreign.gguf"
    write_foreign(foreign)
    with pytest.raises(ModelLoadError) as caught:
        load(foreign)
    assert "--images" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_truncated_model_is_refused(tmp_path: Path, tiny_model: Path, share: float) -> None:
    whole = tiny_model.read_bytes()
    path = tmp_path / "short.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelLoadError, match=r"short\.gguf"):
        load(path)


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="No such file"):
        load(tmp_path / "absent.gguf")
    with pytest.raises(ModelLoadError, match="directory"):
        load(tmp_path)


def test_unknown_device_is_refused_and_no_device_means_the_processor(tiny_model: Path) -> None:
    with pytest.raises(ModelLoadError, match="unknown device CUDA7"):
        load(tiny_model, devices=("CUDA7",))
    load(tiny_model, devices=()).close()


def test_too_long_tensor_split_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelLoadError, match="tensor split"):
        load(tiny_model, tensor_split=(1.0,) * 1000)


@pytest.mark.parametrize("use_mmap", [True, False])
def test_loads_with_and_without_mapping(tiny_model: Path, *, use_mmap: bool) -> None:
    load(tiny_model, use_mmap=use_mmap, tensor_split=(1.0,)).close()


def test_metadata_overrides_reach_the_library(tiny_model: Path) -> None:
    overrides = (
        ("llama.context_length", 1234),
        ("tokenizer.ggml.add_bos_token", False),
        ("llama.rope.freq_base", 20000.0),
        ("general.name", "renamed"),
    )
    model = load(tiny_model, metadata_overrides=overrides)
    assert model.facts().n_ctx_train == 1234
    assert not model.vocab.add_bos
    model.close()


@pytest.mark.parametrize("override", [("", 1), ("k" * 128, 1), ("general.name", "v" * 128)])
def test_overrides_that_do_not_fit_are_refused(tiny_model: Path, override: tuple[str, int | str]) -> None:
    with pytest.raises(ModelLoadError, match="override"):
        load(tiny_model, metadata_overrides=(override,))


def test_progress_is_reported_and_can_stop_the_load(tiny_model: Path) -> None:
    shares: list[float] = []
    Model(ModelOptions(path=str(tiny_model)), lambda share: shares.append(share) or True).close()
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    with pytest.raises(ModelLoadError, match="cannot load"):
        Model(ModelOptions(path=str(tiny_model)), lambda _share: False)
