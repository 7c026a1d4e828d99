"""Runs Debian's nginx with the configuration that we hand out, its addresses replaced."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.process import ServerProcess
from tests.live.workers import LOOPBACK, free_port

CONFIGURATION = Path(__file__).parents[2] / "tools/deploy/nginx.conf"
REPLICAS = ("10.0.0.1:8080", "10.0.0.2:8080")

_FRAME = """
{user}
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/llama-box.conf;
}}
"""


@contextmanager
def nginx(directory: Path, replicas: Sequence[str]) -> Iterator[str]:
    """URL of an nginx in front of two replicas (host:port)."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    port = free_port()
    text = CONFIGURATION.read_text(encoding="utf-8")
    for placeholder, address in zip((*REPLICAS, "listen 80;"), (*replicas, f"listen {LOOPBACK}:{port};"), strict=True):
        assert text.count(placeholder) == 1
        text = text.replace(placeholder, address)
    (directory / "llama-box.conf").write_text(text, encoding="utf-8")
    frame = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    frame.write_text(_FRAME.format(user=user, directory=directory), encoding="utf-8")
    command = [program, "-p", str(directory), "-c", str(frame), "-e", "stderr"]
    process = ServerProcess(subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True))
    process.start_reading()
    try:
        process.wait_for("getrlimit")  # said once the sockets are open
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.end()
