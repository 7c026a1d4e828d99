"""Tries in a child process what might kill this one, and remembers how it ended."""

import contextlib
import hashlib
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import attrs
import platformdirs

from engine.native import library

logger: Final = logging.getLogger(__name__)

# Whoever stops the server in the middle of a trial stops the child too (a terminal, a service manager).
_ASKED_TO_END: Final = frozenset({signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)})
_TIMEOUT: Final = 120.0  # seconds; the trials need less than one
_GLANCE: Final = 0.1  # seconds between two looks whether the child is still wanted
_GOOD: Final = "good"  # how a child that lived is remembered
_MOST_REMEMBERED: Final = 200  # texts of a kind
_SOURCE_PATH: Final = re.compile(r"^\S*/(?=[^/\s]+:\d+: )")  # the build machine's directories in an assertion


@attrs.frozen
class Outcome:
    """How a child ended. ``status`` is its exit status, or minus the signal; None if it did not start or end."""

    status: int | None
    complaint: str = ""  # the last line that it wrote to stderr

    @property
    def killed_by(self) -> str | None:
        """The name of the signal that ended it, None for one that only asks to end: that says nothing of the trial."""
        if self.status is None or self.status >= 0 or -self.status in _ASKED_TO_END:
            return None
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return f"signal {-self.status}"


def module_command(name: str) -> tuple[str, ...]:
    """The command that runs a module of this package in a child."""
    return (sys.executable, "-m", name)


def run_child(
    command: Sequence[str], argument: str, timeout: float = _TIMEOUT, go_on: Callable[[], bool] = lambda: True
) -> Outcome:
    """Run ``command`` with ``argument`` appended; blocks until it has ended, ``timeout`` seconds at most.

    It is killed once ``go_on`` says no. Ctrl-C in a terminal does not reach it: that would look like its death.
    """
    root = Path(__file__).parents[2]  # the child must find this package wherever the parent found it
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    deadline = monotonic() + timeout
    try:
        child = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            (*command, argument),
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(None, str(error))
    with child:
        while True:
            try:
                _, stderr = child.communicate(timeout=max(0.0, min(_GLANCE, deadline - monotonic())))
                break
            except subprocess.TimeoutExpired:
                if go_on() and monotonic() < deadline:
                    continue
                child.kill()
                return Outcome(None, "it did not end")
            except BaseException:
                child.kill()
                raise
    complaint = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return Outcome(child.returncode, _SOURCE_PATH.sub("", complaint))


def no_core_dump() -> None:
    """For the child: dying is expected of it and leaves nothing behind."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@attrs.frozen
class Memory:
    """Texts by name in ``directory``, None: the user's cache. A memory that cannot be written forgets.

    Of names that begin alike up to a hyphen only the newest are kept: files come and go, and so do their names.
    """

    directory: Path | None = None

    def _path(self, name: str) -> Path:
        directory = Path(platformdirs.user_cache_dir("llama-box")) if self.directory is None else self.directory
        return directory / f"{name}.txt"

    def recall(self, name: str) -> str | None:
        """What was remembered, None if nothing was."""
        try:
            return self._path(name).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def remember(self, name: str, text: str) -> None:
        """Keep a text that is not empty; whole or not at all."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
                file.write(text + "\n")
            Path(file.name).replace(path)
            _remove_oldest(path.parent.glob(f"{name.partition('-')[0]}-*.txt"))
        except OSError as error:
            logger.debug("the outcome of %s is not remembered: %s", name, error)


def _remove_oldest(files: Iterable[Path]) -> None:
    """Leave the newest ones of these. Raises OSError."""
    dated: list[tuple[int, Path]] = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another server removes them too
            dated.append((file.stat().st_mtime_ns, file))
    for _, file in sorted(dated)[:-_MOST_REMEMBERED]:
        file.unlink(missing_ok=True)


def file_identity(path: Path) -> str:
    """Changes with the place, the size and the date of a file. Raises OSError."""
    stat = path.stat()
    return f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}"


def try_once(
    kind: str,
    identity: str,
    command: Sequence[str],
    argument: str,
    cache_dir: Path | None = None,
    *,
    timeout: float = _TIMEOUT,
    go_on: Callable[[], bool] = lambda: True,
) -> str | None:
    """What killed a child that runs ``command`` with ``argument`` (see ``run_child``); None where nothing did.

    A child that ends well is remembered by ``kind`` and ``identity`` (see ``Memory``) and not run again; one that was
    killed, or reports an error of its own, is.
    """
    memory, name = Memory(cache_dir), f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
    if memory.recall(name) == _GOOD:
        return None
    outcome = run_child(command, argument, timeout, go_on)
    if outcome.killed_by:
        return outcome.complaint or outcome.killed_by
    if outcome.status == 0:
        memory.remember(name, _GOOD)
    return None


def try_file(kind: str, path: str, command: Sequence[str], cache_dir: Path | None = None) -> str | None:
    """As ``try_once``, of a file that llama.cpp reads. Raises OSError."""
    identity = f"{library.package_version()}\0{file_identity(Path(path))}"
    return try_once(kind, identity, command, path, cache_dir)
