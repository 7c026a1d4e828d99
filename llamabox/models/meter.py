"""How far a download is: a bar where standard error is a terminal, else a log line now and then."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

_EVERY: Final = 10.0  # seconds between two lines
_MIB: Final = 2**20


class Meter(Protocol):
    """``at`` bytes of ``total`` (None: unknown) are there."""

    def show(self, at: int, total: int | None) -> None: ...


@contextmanager
def metered(name: str, clock: Callable[[], float] = monotonic) -> Iterator[Meter]:
    """A meter for the file ``name``."""
    if not sys.stderr.isatty():
        yield _Lines(name, clock)
        return
    from tqdm import tqdm  # type: ignore[import-untyped]  # its stubs are a package of their own

    # Its default lock is shared between processes, which may start a helper process.
    tqdm.set_lock(threading.RLock())
    with tqdm(desc=name, unit="B", unit_scale=True, file=sys.stderr) as bar:
        yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._began = False

    def show(self, at: int, total: int | None) -> None:
        if not self._began:
            self._began = True
            self._bar.initial = at  # what an earlier run fetched does not count into the rate
            self._bar.n = at
        self._bar.total = total
        self._bar.update(at - self._bar.n)


class _Lines:
    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._next = clock() + _EVERY

    def show(self, at: int, total: int | None) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _EVERY
        of = f" of {total // _MIB} MiB, {100 * at // total}%" if total else " MiB"
        log.info("%s: %d%s", self._name, at // _MIB, of)
