"""Weight files are looked at before the library sees them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ModelLoadError
from engine.native.sd.weights import check_lora, check_model, check_weights, read_safetensors
from tests.models.tiny_sd import TinySd, lora_tensors, write_image_gguf, write_raw, write_safetensors


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes


def write(path: Path, header: object, data: bytes = bytes(24)) -> str:
    return str(write_raw(path, json.dumps(header).encode(), data))


def test_the_tiny_models_are_sound(tiny_sd: TinySd) -> None:
    for path in (tiny_sd.model, tiny_sd.taesd, tiny_sd.upscaler_x2, tiny_sd.upscaler_x4):
        check_model(str(path))
    check_lora(str(tiny_sd.lora))
    assert "model.diffusion_model.img_in.weight" in read_safetensors(str(tiny_sd.model))


def test_a_sound_header_passes(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "a": entry(), "s": entry(shape=[], data_offsets=[0, 4])}
    check_weights(write(tmp_path / "x.safetensors", header))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ([], "no JSON object"),
        ({}, "no tensors"),
        ({"__metadata__": {}}, "no tensors"),
        ({"a": 1}, "no object"),
        ({"a": {}}, "the type None"),
        ({"a": entry(dtype=5)}, "the type 5"),
        ({"a": entry(dtype="Q9")}, "the type 'Q9'"),
        ({"a": entry(shape=None)}, "the shape None"),
        ({"a": entry(shape=[2, "3"])}, "the shape"),
        ({"a": entry(shape=[2, -3])}, "the shape"),
        ({"a": entry(shape=[2, 3.0])}, "the shape"),
        ({"a": entry(shape=[True, 6])}, "the shape"),
        ({"a": entry(shape=[0], data_offsets=[0, 0])}, "the shape"),
        ({"a": entry(shape=[1] * 6)}, "the shape"),
        ({"a": entry(shape=[2**40, 2**40])}, "the shape"),
        ({"a": entry(data_offsets=None)}, "the offsets"),
        ({"a": entry(data_offsets=[0])}, "the offsets"),
        ({"a": entry(data_offsets=[24, 0])}, "the offsets"),
        ({"a": entry(data_offsets=["0", 24])}, "the offsets"),
        ({"a": entry(data_offsets=[0, 20])}, "20 bytes"),
        ({"a": entry(data_offsets=[24, 48])}, "truncated"),
    ],
)
def test_a_header_that_the_library_would_die_of_is_refused(tmp_path: Path, header: object, reason: str) -> None:
    path = write(tmp_path / "bad.safetensors", header)
    with pytest.raises(ModelLoadError, match=reason) as caught:
        check_weights(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"abc", "truncated"),
        (b"GGUF", "truncated"),
        (b"PK\3\4" + bytes(range(60)), "PyTorch"),
        (b"\x80\2}q\0" + b"x" * 60, "PyTorch"),
        (b"just any text, long enough", "no safetensors or GGUF file"),
        (b"\xff" * 8 + b"{}", "no safetensors"),
        ((100).to_bytes(8, "little") + b"{}", "truncated"),
        ((1).to_bytes(8, "little") + b"{}", "no safetensors"),
        ((4).to_bytes(8, "little") + b"{a}\0", "NUL"),
        ((4).to_bytes(8, "little") + b"{a} ", "no JSON"),
        ((4).to_bytes(8, "little") + b"\xff\xfe{}", "no JSON"),
        ((9).to_bytes(8, "little") + b'{"a":NaN}', "no JSON"),
        ((200000).to_bytes(8, "little") + b"[" * 200000, "no JSON"),
    ],
)
def test_what_is_no_weight_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=reason):
        check_weights(str(path))


def test_missing_files_are_refused(tmp_path: Path) -> None:
    for path in (str(tmp_path / "absent"), str(tmp_path), "a\0b"):
        with pytest.raises(ModelLoadError):
            check_weights(path)


@given(content=st.binary(max_size=200))
def test_no_bytes_crash_the_check(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError):
        check_weights(str(path))


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_model_is_refused(tiny_sd: TinySd, tmp_path: Path, share: float) -> None:
    whole = tiny_sd.model.read_bytes()
    path = tmp_path / "short.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelLoadError, match="truncated"):
        check_model(str(path))


def test_a_lora_is_no_model_and_a_model_no_lora(tiny_sd: TinySd) -> None:
    with pytest.raises(ModelLoadError, match="it is a LoRA"):
        check_model(str(tiny_sd.lora))
    with pytest.raises(ModelLoadError, match="no LoRA tensors"):
        check_lora(str(tiny_sd.taesd))


def test_a_language_model_is_no_image_model(tiny_model: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"it is a language model \(llama\), which makes no images.*--image-model"):
        check_model(str(tiny_model))
    check_weights(str(tiny_model))


def test_an_image_model_as_gguf_is_one(tmp_path: Path) -> None:
    check_model(str(write_image_gguf(tmp_path / "flux.gguf")))


def test_the_halves_of_a_lora_must_fit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = lora_tensors(random)
    base = "diffusion_model.double_blocks.0.img_attn.qkv"
    wrong = tensors | {f"{base}.lora_up.weight": random.standard_normal((384, 5))}
    with pytest.raises(ModelLoadError, match="do not fit"):
        check_lora(str(write_safetensors(tmp_path / "wrong.safetensors", wrong)))
    del tensors[f"{base}.lora_up.weight"]
    with pytest.raises(ModelLoadError, match="the up half of"):
        check_lora(str(write_safetensors(tmp_path / "half.safetensors", tensors)))
