"""Files whose metadata would abort the process."""

import sys
from pathlib import Path

import pytest

from engine.errors import ModelLoadError
from engine.native.metadata_check import check_metadata


def child(code: str) -> list[str]:
    return [sys.executable, "-c", code]


DIES = child(
    "import os, sys; sys.stderr.write('/build/dir/vocab.cpp:7: ASSERT(a/b) failed\\n'); sys.stderr.flush(); os.abort()"
)


def test_good_file_is_tried_once(tiny_model: Path, tmp_path: Path) -> None:
    check_metadata(str(tiny_model), tmp_path)
    check_metadata(str(tiny_model), tmp_path, command=DIES)
    with pytest.raises(ModelLoadError, match=r"abort: vocab\.cpp:7: ASSERT\(a/b\) failed$"):
        check_metadata(str(tiny_model), tmp_path / "other", command=DIES)


def test_file_that_kills_the_library_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "fuzzed.gguf"
    # Two tokens of the same text: the library asserts that there are none.
    path.write_bytes(tiny_model.read_bytes().replace(b"<0x41>", b"<0x42>"))
    for _ in range(2):  # a bad verdict is not remembered as a good one
        with pytest.raises(ModelLoadError, match=r"fuzzed\.gguf.*abort: .*ASSERT"):
            check_metadata(str(path), tmp_path)


def test_changed_file_is_tried_again(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model.read_bytes())
    check_metadata(str(path), tmp_path)
    path.write_bytes(tiny_model.read_bytes() + b"\0")
    with pytest.raises(ModelLoadError):
        check_metadata(str(path), tmp_path, command=DIES)


def test_clean_errors_are_left_to_the_load(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 60)
    check_metadata(str(path), tmp_path)
    check_metadata(str(path), tmp_path, command=["/nonexistent"])
    with pytest.raises(ModelLoadError, match="No such file"):
        check_metadata(str(tmp_path / "absent.gguf"), tmp_path)
