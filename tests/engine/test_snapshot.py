"""Slot files: whole or refused, and written whole or not at all."""

import os
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest, StorageError
from engine.text.snapshot import HASH_SIZE, Identity, Snapshot, read_snapshot, write_snapshot
from engine.text.tokens import row

ME = Identity(model=b"m" * HASH_SIZE, adapters=(b"a" * HASH_SIZE, b"b" * HASH_SIZE))
SNAPSHOT = Snapshot(tokens=row(range(100, 140)), adapters=((0, 0.5), (1, -2.0)), state=bytearray(range(256)) * 20)


def written(folder: Path) -> Path:
    path = folder / "slot.bin"
    write_snapshot(path, SNAPSHOT, ME)
    return path


def refusal(path: Path, identity: Identity = ME, most: int = 64) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_snapshot(path, identity, most)
    assert caught.value.param == "filename"
    assert path.name in str(caught.value)
    return str(caught.value)


@settings(max_examples=30)
@given(
    tokens=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50),
    adapters=st.sampled_from([(), ((0, 1.0),), ((0, 0.25), (1, 3.0))]),
    state=st.binary(min_size=1, max_size=300),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], adapters: tuple[tuple[int, float], ...], state: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    size = write_snapshot(path, Snapshot(tokens=row(tokens), adapters=adapters, state=state), ME)
    snapshot, read = read_snapshot(path, ME, 50)
    assert (snapshot.tokens, snapshot.adapters, bytes(snapshot.state)) == (row(tokens), adapters, state)
    assert size == read == path.stat().st_size


def test_a_file_of_any_other_length_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        assert "damaged" in refusal(path)
    path.write_bytes(data + b"x")
    assert "damaged" in refusal(path)


def test_a_file_with_any_other_byte_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    for position in [*range(260), *range(260, len(data), 61)]:
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        refusal(path)


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (attrs.evolve(ME, model=b"x" * HASH_SIZE), "another model"),
        (attrs.evolve(ME, adapters=ME.adapters[:1]), "a LoRA that is not loaded"),
    ],
)
def test_a_file_of_another_configuration_is_refused(tmp_path: Path, identity: Identity, reason: str) -> None:
    assert reason in refusal(written(tmp_path), identity)


def test_adapters_are_found_by_what_they_are_not_by_their_place(tmp_path: Path) -> None:
    swapped = attrs.evolve(ME, adapters=(b"c" * HASH_SIZE, *ME.adapters[::-1]))
    snapshot, _ = read_snapshot(written(tmp_path), swapped, 64)
    assert snapshot.adapters == ((1, -2.0), (2, 0.5))


def test_more_tokens_than_a_slot_has_are_refused(tmp_path: Path) -> None:
    assert "40 tokens" in refusal(written(tmp_path), most=39)


def test_what_is_no_slot_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    assert "No such file" in refusal(path)
    path.write_bytes(b"GGUF" * 1000)
    assert "no slot file" in refusal(path)
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refusal(tmp_path / "pipe")
    refusal(tmp_path)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    assert written(tmp_path).stat().st_mode & 0o077 == 0, "it holds somebody's prompt"


def test_what_was_there_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"slot\.bin cannot be written: No space left"):
        write_snapshot(path, attrs.evolve(SNAPSHOT, tokens=[1]), ME)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "a temporary file is left"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_snapshot(tmp_path / "no" / "slot.bin", SNAPSHOT, ME)
