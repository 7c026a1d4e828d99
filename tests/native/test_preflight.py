"""The preflight: the real child, and children that die."""

import sys
from pathlib import Path

import pytest

from engine.native import preflight
from engine.native.preflight import Verdict, check
from engine.native.probe_model import write_probe


def child(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_probe_decodes_to_numbers(tmp_path: Path) -> None:
    path = tmp_path / "probe.gguf"
    write_probe(path)
    assert preflight.decode_probe(str(path))


def test_real_child_answers_and_is_asked_once(tmp_path: Path) -> None:
    verdict = check(True, tmp_path)
    assert verdict.extra_buffers == (verdict.reason is None)
    # A child that would fail shows that the second answer is the remembered one.
    assert check(True, tmp_path, command=child("raise SystemExit(3)")) == verdict


def test_nothing_is_tried_when_not_wished_for(tmp_path: Path) -> None:
    assert check(False, tmp_path, command=["/nonexistent"]) == Verdict(extra_buffers=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("raise SystemExit(3)", "nonsense"),
    ],
)
def test_child_that_dies_switches_the_buffers_off_for_good(tmp_path: Path, code: str, reason: str) -> None:
    verdict = check(True, tmp_path, command=child(code))
    assert not verdict.extra_buffers
    assert reason in str(verdict.reason)
    assert check(True, tmp_path, command=child("")) == verdict


@pytest.mark.parametrize(
    "command",
    [
        ["/nonexistent"],
        child("raise SystemExit('no disk')"),
        child("1/0"),
        # Ctrl-C in a terminal and a service manager's stop meet the child too.
        child("import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"),
        child("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
        child("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    ],
)
def test_failure_of_the_trial_itself_is_not_remembered(tmp_path: Path, command: list[str]) -> None:
    verdict = check(True, tmp_path, command=command)
    assert not verdict.extra_buffers
    assert verdict.reason is not None
    assert check(True, tmp_path, command=child("")) == Verdict(extra_buffers=True)


def test_child_gets_the_probe_and_finds_the_package(tmp_path: Path) -> None:
    code = "import sys, engine; raise SystemExit(open(sys.argv[1], 'rb').read(4) != b'GGUF')"
    assert check(True, tmp_path, command=child(code)).extra_buffers


def test_unwritable_cache_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert check(True, file / "cache", command=child("")) == Verdict(extra_buffers=True)


def test_other_processor_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(True, tmp_path, command=child("")).extra_buffers
    monkeypatch.setattr(preflight, "_processor", lambda: "another one")
    assert not check(True, tmp_path, command=child("raise SystemExit(3)")).extra_buffers


def test_child_reports_a_file_it_cannot_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight.main(str(tmp_path / "absent.gguf")) == 1
    assert "absent.gguf" in capsys.readouterr().err
