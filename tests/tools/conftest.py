"""Running the shell tools."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a tool in an empty directory; what it leaves behind in the temporary directory is an error."""

    def run_tool(
        name: str, *args: str, url: str = "http://127.0.0.1:1", stdin: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(scratch), "API_URL": url}
        done = subprocess.run(
            [TOOLS / name, *args],
            env=environment | settings,
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert list(scratch.iterdir()) == []
        return done

    return run_tool
