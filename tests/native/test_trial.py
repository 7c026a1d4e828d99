"""What a trial in a child process does to the process that waits for it."""

import os
import sys
from pathlib import Path

import pytest

from engine.native import trial
from engine.native.trial import Outcome, run_child

ENDLESS = "import threading; threading.Event().wait()"


def test_a_child_that_is_wanted_no_more_is_ended() -> None:
    answers = iter((True, False))
    outcome = run_child((sys.executable, "-c", ENDLESS), "job", go_on=lambda: next(answers))
    assert outcome == Outcome(None, "it did not end")
    assert outcome.killed_by is None


def test_a_child_has_time_that_ends() -> None:
    assert run_child((sys.executable, "-c", ENDLESS), "job", timeout=0.01).status is None


def test_ctrl_c_in_a_terminal_does_not_reach_the_child() -> None:
    """The terminal signals its group of processes; a child ended by that would count as killed by its job."""
    code = f"import os, sys; sys.exit(os.getpgid(0) == {os.getpgid(0)})"
    assert run_child((sys.executable, "-c", code), "job").status == 0


def test_the_last_line_of_a_failing_child_is_its_complaint() -> None:
    code = "import sys; sys.stderr.write('first\\nlast\\n'); sys.exit(3)"
    assert run_child((sys.executable, "-c", code), "job") == Outcome(3, "last")


def test_a_command_that_is_none_has_no_status() -> None:
    assert run_child(("/no/such/command",), "job").status is None


def test_only_the_newest_of_a_kind_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_MOST_REMEMBERED", 3)
    memory = trial.Memory(tmp_path)
    (tmp_path / "model-other.gguf").write_text("no text of ours")
    memory.remember("models-1", "another kind")
    for number in range(5):
        memory.remember(f"model-{number}", "good")
        os.utime(tmp_path / f"model-{number}.txt", (number, number))
    memory.remember("model-again", "good")
    assert [memory.recall(f"model-{number}") for number in range(5)] == [None, None, None, "good", "good"]
    assert memory.recall("model-again") == "good"
    assert memory.recall("models-1") == "another kind"
    assert (tmp_path / "model-other.gguf").exists()
