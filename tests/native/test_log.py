"""The library's log lines in Python's logging."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import ModelLoadError
from engine.native.environment import DEFAULTS
from engine.native.log import LineJoiner, NativeLog, explain, native_log
from engine.native.model import Model
from engine.native.options import ModelOptions

INFO, WARN, ERROR, CONT = 2, 3, 4, 5


def test_pieces_become_lines() -> None:
    joiner = LineJoiner()
    assert joiner.feed(INFO, "one\n") == [(INFO, "one")]
    assert joiner.feed(WARN, "tw") == []
    assert joiner.feed(CONT, "o\nthr") == [(WARN, "two")]
    assert joiner.feed(CONT, "ee\n") == [(WARN, "three")]
    assert joiner.feed(INFO, "unfinished") == []
    assert joiner.feed(ERROR, "a\n\nb\n") == [(INFO, "unfinished"), (ERROR, "a"), (ERROR, "b")]


def test_reason_is_the_first_error_without_the_functions_name() -> None:
    assert explain(["f: error loading model: bad magic", "g: failed to load model"]) == "bad magic"
    assert explain(["plain words"]) == "plain words"
    assert explain([]) == "the library gave no reason"


def test_levels(tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "llama.cpp")
    Model(ModelOptions(path=str(tiny_model))).close()
    assert any("general.name" in record.message for record in caplog.records)
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG, logging.WARNING}
    assert not any(record.message.endswith("\n") for record in caplog.records)
    caplog.clear()
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 60)
    with native_log.collect_errors() as errors, pytest.raises(ModelLoadError):
        Model(ModelOptions(path=str(bad)))
    assert errors
    levels = {record.message: record.levelno for record in caplog.records}
    assert {levels[line] for line in errors} == {logging.DEBUG}


def test_errors_that_nobody_collects_are_errors(caplog: pytest.LogCaptureFixture) -> None:
    sink = NativeLog()
    sink._receive(ERROR, b"trouble\n", None)
    with sink.collect_errors() as errors:
        sink._receive(ERROR, b"expected\n", None)
    sink._receive(ERROR, b"more trouble\n", None)
    assert errors == ["expected"]
    assert [(r.levelno, r.message) for r in caplog.records if r.levelno >= logging.ERROR] == [
        (logging.ERROR, "trouble"),
        (logging.ERROR, "more trouble"),
    ]


def test_a_warning_for_each_tensor_of_a_lora_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "llama.cpp")
    line = "lora for 'blk.0.ffn_down.weight' cannot use buft 'CPU_REPACK', fallback to CPU"
    NativeLog()._receive(WARN, f"{line}\n".encode(), None)
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.DEBUG, line)]


@pytest.mark.parametrize("name", DEFAULTS)
def test_environment_is_set_unless_the_user_did(name: str) -> None:
    code = f"import engine.native, os; print(os.environ[{name!r}])"

    def value(**extra: str) -> str:
        environment = {key: text for key, text in os.environ.items() if key not in DEFAULTS} | extra
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert value() == DEFAULTS[name]
    assert value(**{name: "0"}) == "0"


def test_library_loads_without_the_high_level_package() -> None:
    code = (
        "import sys; from engine.native import library; library.start();"
        "print('llama_cpp.llama' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr == ""
