"""The systemd units: their commands are ones that llama-box understands, and they start it again when they should."""

from configparser import ConfigParser
from pathlib import Path

import pytest

from cli.parse import read_arguments
from cli.rpc_server import is_wanted
from cli.workers import UNREACHABLE

DIRECTORY = Path(__file__).parents[2] / "tools/deploy"


@pytest.mark.parametrize("name", ["llama-box", "llama-box-rpc"])
def test_units(name: str) -> None:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    unit.read(DIRECTORY / f"{name}.service", encoding="utf-8")
    service = unit["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/llama-box")
    values = read_arguments(arguments)
    assert is_wanted(values) == (name == "llama-box-rpc")
    assert service["Restart"] in ("always", "on-failure")
    assert str(UNREACHABLE) not in service["RestartPreventExitStatus"].split()
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
