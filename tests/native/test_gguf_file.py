"""What GGUF files say of themselves is read right, and what is damaged is refused with a reason."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from engine.errors import ModelLoadError
from engine.native import gguf_file
from engine.native.gguf_file import FLOAT32, Tensor, check_file, has_tensor, is_gguf, read_gguf

WORDS = [f"word {n} " * (n % 5) for n in range(2_000)]
SHAPES = {"a": (3, 2), "b": (5,)}


def write(path: Path, *, tensors: dict[str, tuple[int, ...]] = SHAPES) -> Path:
    """A file with a value of every kind."""
    writer = gguf.GGUFWriter(path, "kind")
    writer.add_string("text", "tëxt")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -3)
    writer.add_int64("i64", -(2**40))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 1e300)
    writer.add_bool("yes", True)
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", WORDS)
    writer.add_string("behind", "the words")
    for name, shape in tensors.items():
        writer.add_tensor(name, np.full(shape, 7, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("block", [8, 9, 64, 1000, 1 << 20])
def test_everything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """However the words lie in the blocks that are read at once, some of them over several."""
    monkeypatch.setattr(gguf_file, "_BLOCK", block)
    path = write(tmp_path / "x.gguf")
    file = read_gguf(str(path))
    known = {"general.architecture": "kind", "text": "tëxt", "u8": 200, "i8": -3, "i64": -(2**40), "f32": 0.5}
    arrays = {"numbers": None, "words": None}
    assert file.metadata == known | {"f64": 1e300, "yes": True} | arrays | {"behind": "the words"}
    a, b = file.tensors
    assert (a.name, a.shape, a.type, b.name, b.shape) == ("a", (2, 3), FLOAT32, "b", (5,))
    data = path.read_bytes()
    for tensor, count in ((a, 6), (b, 5)):
        assert data[tensor.offset :][: 4 * count] == struct.pack("<f", 7) * count


def test_every_cut_through_the_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "_BLOCK", 64)
    monkeypatch.setattr("tests.native.test_gguf_file.WORDS", WORDS[:20])
    whole = write(tmp_path / "whole.gguf").read_bytes()
    head = read_gguf(str(tmp_path / "whole.gguf")).tensors[0].offset
    end = whole.rindex(b"b", 0, head) + 1 + 4 + 8 + 4 + 8  # behind the name: dimensions, the one, type, offset
    path = tmp_path / "cut.gguf"
    for size in range(end):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelLoadError, match=r"truncated|starts with"):
            read_gguf(str(path))
    path.write_bytes(whole[:end])
    assert read_gguf(str(path)).metadata["behind"] == "the words"


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_word_that_ends_nowhere_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.gguf")
    word = WORDS[-1].encode()
    assert len(word) == 40
    data = path.read_bytes()
    at = data.index(struct.pack("<Q", 40) + word)
    path.write_bytes(data[:at] + struct.pack("<Q", length) + data[at + 8 :])
    with pytest.raises(ModelLoadError, match=r"x\.gguf: the file is truncated"):
        read_gguf(str(path))


def test_a_tensor_without_dimensions_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", tensors={"scale": ()})
    (scale,) = read_gguf(str(path)).tensors
    assert scale == Tensor("scale", (1,), FLOAT32, scale.offset)


def test_a_tensor_is_found_in_any_part(tmp_path: Path) -> None:
    whole = str(write(tmp_path / "whole.gguf"))
    assert has_tensor(whole, {"b", "c"})
    assert not has_tensor(whole, {"c"})
    first = write(tmp_path / "x-00001-of-00002.gguf")
    write(tmp_path / "x-00002-of-00002.gguf", tensors={"c": (1,)})
    assert has_tensor(str(first), {"c"})
    assert not has_tensor(str(first), {"d"})


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for reader in (read_gguf, check_file):
        with pytest.raises(ModelLoadError, match="absent: No such file"):
            reader(str(tmp_path / "absent"))
        with pytest.raises(ModelLoadError, match=r"'a\\x00b': embedded null"):
            reader("a\0b")
        (tmp_path / "foreign").write_bytes(b"PK\x03\x04" * 9)
        with pytest.raises(ModelLoadError, match=r"not a GGUF file \(it starts with b'PK"):
            reader(str(tmp_path / "foreign"))
    assert not is_gguf(str(tmp_path / "foreign"))
    assert is_gguf(str(write(tmp_path / "x.gguf")))
