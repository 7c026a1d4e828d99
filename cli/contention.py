"""Lets the computing threads sleep at their barriers while other programs want the processors.

Spinning is worth a tenth of the tokens on a machine that is ours alone. Beside a busy program it can cost all but a
tenth of them: a thread that was sent away holds up the others, which spin on the processor that it waits for.
"""

import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol

import trio

from engine.native.contention import Contention, Reading

log = logging.getLogger("cli.contention")

_SECONDS: Final = 1.0


class Team(Protocol):
    """See ``engine.native.openmp.IdleTeam``."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


async def watch(team: Team, spare: float, is_working: Callable[[], bool], read: Callable[[], Reading]) -> None:
    """Have the team while there is contention; for ever, or until the system cannot tell.

    Only seconds count that began and ended with work: what others did while this program was idle harmed nobody.

    ``spare``: processors that the computing threads leave to others.
    """
    contention, last, worked = Contention(spare), read(), False
    try:
        while True:
            await trio.sleep(_SECONDS)
            now, works, found = read(), is_working(), contention.found
            if worked and works and contention.judge(now.others(last)) is not found:
                if found:
                    log.info("other programs are gone: computing threads spin at their barriers again")
                    team.stop()
                else:
                    log.info("other programs need the processors: computing threads sleep at their barriers")
                    team.start()
            last, worked = now, works
    finally:
        team.stop()


async def watch_processors(n_threads: int, processors: Collection[int], is_working: Callable[[], bool]) -> None:
    """``watch`` on this machine. Returns at once where it would be of no use, or the user has said how to spin."""
    from engine.native.environment import chose_spinning
    from engine.native.openmp import IdleTeam

    if not chose_spinning() or not processors or len(processors) < n_threads:
        return  # with more threads than processors libgomp does not spin
    team = IdleTeam(len(processors) - n_threads + 2)  # one more thread than processors, with the team that computes
    try:
        await watch(team, len(processors) - n_threads, is_working, lambda: Reading.take(processors))
    except (OSError, ValueError) as error:
        log.debug("not to be known, or not to be changed: %s", error)
