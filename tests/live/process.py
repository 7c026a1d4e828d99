"""Runs the real ``llama-box`` as a child process, as a user would."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs

# A hung server must fail the test, not hang the run.
PATIENCE = 120.0


@attrs.define
class ServerProcess:
    """A running server. ``lines`` are those that it has logged so far."""

    process: subprocess.Popen[str]
    lines: list[str] = attrs.field(factory=list)
    _fresh: "queue.SimpleQueue[str | None]" = attrs.field(factory=queue.SimpleQueue)
    _reader: threading.Thread | None = None

    def start_reading(self) -> None:
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in a log line that has not been waited past yet."""
        while True:
            line = self._fresh.get(timeout=PATIENCE)
            if line is None:
                self._fresh.put(None)  # the end of the log is still to be read by `wait`
                raise AssertionError("the server ended:\n" + self.log)
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status; reads the log to its end."""
        status = self.process.wait(timeout=PATIENCE)
        if self._reader is None:
            return status  # read before
        self._reader.join()
        self._reader = None
        while (line := self._fresh.get()) is not None:
            self.lines.append(line)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def end(self) -> None:
        """Kill it, unless it has ended, and read the log to its end."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def environment(**extra: str) -> dict[str, str]:
    """The environment without what a developer's shell may have set for llama-box."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "HF_"))}
    # Tests run servers beside each other: threads that wait at a barrier take the cores from those they wait for.
    return {"GOMP_SPINCOUNT": "1000", "LLAMA_ARG_THREADS": "1"} | kept | extra


def launch(*arguments: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()) -> ServerProcess:
    """Start ``llama-box`` with these arguments, by another command where ``prefix`` is its beginning."""
    script = Path(sys.executable).with_name("llama-box")
    process = subprocess.Popen(
        [*prefix, str(script), *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=env or environment(),
    )  # fmt: skip
    server = ServerProcess(process)
    server.start_reading()
    return server


@contextmanager
def serving(*arguments: str, env: dict[str, str] | None = None) -> Iterator[tuple[ServerProcess, str]]:
    """A server that is ready, and its base URL; ended by SIGTERM, which must give a clean end."""
    server = launch("--port", "0", *arguments, env=env)
    try:
        url = server.wait_for(r"listening on (\S+)")[1]
        server.wait_for(r"ready after")
        yield server, url
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.log
        assert "Traceback" not in server.log, server.log
    finally:
        server.end()
