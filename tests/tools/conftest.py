"""Running the shell tools."""

import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

type Run = Callable[..., subprocess.CompletedProcess[str]]


def needs(*programs: str) -> pytest.MarkDecorator:
    """A mark for tests of tools that call these programs."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"the shell tools need {', '.join(missing)}: NOT TESTED")


def environment(url: str, scratch: Path) -> dict[str, str]:
    """What a tool is run with: the server, and where it may put temporary files."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(scratch), "API_URL": url}


def on_terminal(stream: str, name: str, url: str, folder: Path) -> str:
    """What a tool that is asked something shows where its ``stream``, stdout or stderr, is a terminal."""
    ours, theirs = pty.openpty()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: theirs}
    try:
        done = subprocess.run(
            [TOOLS / name, "?"], env=environment(url, folder), cwd=folder, stdin=subprocess.DEVNULL, timeout=60,
            check=False, **streams,
        )  # fmt: skip
        shown = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    return shown


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a tool in an empty directory; what it leaves behind in the temporary directory is an error."""

    def run_tool(
        name: str, *args: str, url: str = "http://127.0.0.1:1", stdin: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        done = subprocess.run(
            [TOOLS / name, *args],
            env=environment(url, scratch) | settings,
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
