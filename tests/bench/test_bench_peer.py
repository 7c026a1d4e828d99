"""How the peer is configured and unpacked; nothing is downloaded or compiled."""

import io
import tarfile
from pathlib import Path

import pytest

from tools.bench import peer
from tools.bench.compare import leaves, parse, portable
from tools.bench.load import LoadError


def test_the_amx_cure_is_for_gcc_on_amx_only_and_can_be_overridden() -> None:
    assert "CMAKE_CXX_FLAGS" in peer.definitions("flags: amx_tile", gcc=True)
    assert "CMAKE_CXX_FLAGS" not in peer.definitions("flags: amx_tile", gcc=False)
    assert "CMAKE_CXX_FLAGS" not in peer.definitions("flags: avx2", gcc=True)
    assert peer.definitions("amx_tile", gcc=True, chosen=["CMAKE_CXX_FLAGS=-O1=x"])["CMAKE_CXX_FLAGS"] == "-O1=x"


def test_a_definition_without_a_value_is_refused() -> None:
    with pytest.raises(peer.PeerError, match="KEY=VALUE"):
        peer.definitions("", gcc=False, chosen=["GGML_RPC"])


def test_another_processor_or_other_flags_get_a_build_of_their_own() -> None:
    folders = {peer.folder("a", {}), peer.folder("b", {}), peer.folder("a", {"X": "1"})}
    assert len(folders) == 3
    assert peer.folder("a", {"X": "1"}) in folders


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"ok"))
    return path


def test_only_the_vendored_sources_are_unpacked(tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.tar.gz", "pkg-1/setup.py", "pkg-1/vendor/llama.cpp/CMakeLists.txt")
    peer.unpack(packed, tmp_path / "source")
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["CMakeLists.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "x.tar.gz"]


def test_an_archive_without_the_sources_is_refused(tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.tar.gz", "pkg-1/setup.py")
    with pytest.raises(peer.PeerError, match="no vendor"):
        peer.unpack(packed, tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_unknown_scenarios_and_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--model", "m", "--scenarios", "axz"])
    assert "no such scenario: x, z" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--model", "m", "--rounds", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_published_commands_have_no_machine_paths() -> None:
    assert portable(["/a/b/server", "-m", "/c/m.gguf", "x/y", "--z=1 2", "--out=/d/e"]) == (
        "server -m m.gguf x/y '--z=1 2' --out=e"
    )


def test_all_errors_of_nested_groups_are_reported() -> None:
    one, two = LoadError("1"), LoadError("2")
    assert leaves(ExceptionGroup("", [one, ExceptionGroup("", [two])])) == [one, two]
