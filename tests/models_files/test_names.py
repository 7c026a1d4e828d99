"""What the names of GGUF files tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamabox.models.errors import ModelFileError
from llamabox.models.local import check_parts
from llamabox.models.names import (
    choose_model,
    choose_projector,
    is_model,
    listed,
    missing_parts,
    parts_of,
    split_name,
)

REPOSITORY = (
    "README.md",
    "big/Model-Q6_K-00001-of-00002.gguf",
    "big/Model-Q6_K-00002-of-00002.gguf",
    "imatrix.gguf",
    "mmproj-Model-BF16.gguf",
    "mmproj-Model-F16.gguf",
    "Model-BF16.gguf",
    "Model-Q4_K_M.gguf",
    "Model-Q8_0.gguf",
    "Model-UD-Q4_K_XL.gguf",
    "Model-F16.gguf",
    "mtp-Model-Q4_K_M.gguf",
)


@given(st.text(min_size=1).filter(lambda t: "\n" not in t), st.integers(1, 99), st.data())
def test_parts_name_each_other(stem: str, count: int, data: st.DataObject):
    part = data.draw(st.integers(1, count))
    name = f"{stem}-{part:05}-of-{count:05}.gguf"
    split = split_name(name)
    assert (split.part, split.count, split.name(part)) == (part, count, name)
    assert split_name(split.name(1)).names == split.names


@pytest.mark.parametrize(
    "name", ["m.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-1-of-2.gguf", "m-00001-of-00002.bin", ""]
)
def test_whole_files(name: str):
    assert split_name(name) is None
    assert parts_of(name) == [name]


@pytest.mark.parametrize(
    ("quant", "file"),
    [
        (None, "Model-Q4_K_M.gguf"),
        ("q8_0", "Model-Q8_0.gguf"),
        ("Q6_K", "big/Model-Q6_K-00001-of-00002.gguf"),
        ("F16", "Model-F16.gguf"),  # not the first that ends so, which is BF16
        ("bf16", "Model-BF16.gguf"),
        ("Q4_K_XL", "Model-UD-Q4_K_XL.gguf"),
        ("UD-Q4_K_XL", "Model-UD-Q4_K_XL.gguf"),
        ("Q2_K", None),
        (".*", None),
    ],
)
def test_the_quantisation_chooses(quant: str | None, file: str | None):
    assert choose_model(REPOSITORY, quant) == file


def test_without_the_usual_ones_the_first_is_taken():
    assert choose_model(["a-Q5_K.gguf", "a-q8_0.gguf"], None) == "a-q8_0.gguf"
    assert choose_model(["x-mmproj.gguf", "b.gguf", "a.gguf"], None) == "b.gguf"
    assert choose_model(["README.md", "model.safetensors"], None) is None


def test_what_is_no_model():
    assert [path for path in REPOSITORY if is_model(path)] == [
        "big/Model-Q6_K-00001-of-00002.gguf",
        "Model-BF16.gguf",
        "Model-Q4_K_M.gguf",
        "Model-Q8_0.gguf",
        "Model-UD-Q4_K_XL.gguf",
        "Model-F16.gguf",
    ]


@pytest.mark.parametrize(
    ("files", "model", "projector"),
    [
        (REPOSITORY, "Model-Q4_K_M.gguf", "mmproj-Model-F16.gguf"),
        (REPOSITORY, "big/Model-Q6_K-00001-of-00002.gguf", "mmproj-Model-F16.gguf"),
        (["mmproj-f32.gguf", "mmproj-Q8_0.gguf", "mmproj-bf16.gguf"], "m.gguf", "mmproj-bf16.gguf"),
        (["mmproj-f32.gguf", "mmproj-Q8_0.gguf"], "m.gguf", "mmproj-Q8_0.gguf"),
        (["mmproj-F16.gguf", "a/mmproj-Q8_0.gguf"], "a/m.gguf", "a/mmproj-Q8_0.gguf"),
        (["a/mmproj-F16.gguf"], "m.gguf", None),
        (["a/mmproj-F16.gguf"], "b/m.gguf", None),
        (["mmproj.gguf"], "b/m.gguf", "mmproj.gguf"),
        (["mmproj.json"], "m.gguf", None),
    ],
)
def test_the_projector_nearest_to_f16(files, model: str, projector: str | None):
    assert choose_projector(files, model) == projector


def test_messages_list_models():
    assert listed(["a.gguf", "b.md", "c.gguf"]) == "a.gguf, c.gguf"
    assert listed([f"{n}.gguf" for n in range(23)], most=2) == "0.gguf, 1.gguf and 21 more"
    assert listed([]) == "none"


def test_missing_parts():
    assert missing_parts("a-00001-of-00003.gguf", ["a-00001-of-00003.gguf", "a-00003-of-00003.gguf"]) == [
        "a-00002-of-00003.gguf"
    ]
    assert missing_parts("a.gguf", ["a.gguf"]) == []


def test_local_parts(tmp_path):
    paths = [tmp_path / f"m-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    for path in paths[:2]:
        path.write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"part 1 of 3, and m-00003-of-00003\.gguf missing beside it$"):
        check_parts(str(paths[0]))
    paths[2].write_bytes(b"")
    check_parts(str(paths[0]))
    check_parts(str(tmp_path / "whole.gguf"))
    with pytest.raises(ModelFileError, match=rf"part 2 of 3: give the first, {paths[0]}$"):
        check_parts(str(paths[1]))
