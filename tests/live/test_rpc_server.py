"""The mode that serves devices: refusals, the end, and separate machines, which network namespaces play."""

import signal
import socket
from pathlib import Path

import pytest

from tests.live.test_process import run
from tests.live.workers import LOOPBACK, free_port, worker


def test_a_port_in_use_is_named() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        answer = run("--rpc-server-host", LOOPBACK, "--rpc-server-port", str(port))
    assert answer.returncode == 1
    assert f"cannot serve devices on {LOOPBACK}:{port}: Address already in use" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-m", "x"], 2, "-m: not with --rpc-server-port"),
        (["--rpc-server-main-gpu", "7"], 1, "there is no device 7; known: "),
        (["--rpc-server-host", "nowhere.invalid"], 1, "nowhere.invalid has no IPv4 address"),
        (["--rpc-server-cache-dir", "/dev/null/x"], 1, "cannot make /dev/null/x: Not a directory"),
        (["--images", "-m", "x"], 2, "-m: not with --rpc-server-port"),
        (["--images", "--rpc-server-main-gpu", "7"], 1, "there is no device 7; known: "),
        (["--image-model", "x"], 2, "--image-model: not with --rpc-server-port"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: list[str], status: int, message: str) -> None:
    answer = run("--rpc-server-host", LOOPBACK, "--rpc-server-port", str(free_port()), *arguments)
    assert answer.returncode == status
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_interrupt_ends_it_cleanly(tmp_path: Path) -> None:
    directory = tmp_path / "tensors" / "kept"
    with worker("--rpc-server-threads", "1", "--rpc-server-cache-dir", str(directory)) as servant:
        servant.process.signal(signal.SIGINT)
        assert servant.process.wait() == 0
        assert "1 threads" in servant.process.log
        assert f"tensors kept in {directory}" in servant.process.log
        assert "ANYBODY" not in servant.process.log
        assert directory.is_dir()
