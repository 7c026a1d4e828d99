"""Computing threads sleep at their barriers while other programs want the processors."""

import os
import sys
from collections.abc import Callable, Iterator

import attrs
import pytest
import trio
import trio.testing

from cli.contention import watch, watch_processors
from engine.native.contention import Reading
from engine.native.environment import chose_spinning


@attrs.define
class FakeTeam:
    """Notes when it came and went, in seconds."""

    since: float = attrs.field(factory=trio.current_time)
    told: list[tuple[str, float]] = attrs.field(factory=list)

    def start(self) -> None:
        self._tell("start")

    def stop(self) -> None:
        self._tell("stop")

    def _tell(self, what: str) -> None:
        self.told.append((what, trio.current_time() - self.since))


def readings(*others: float) -> Callable[[], Reading]:
    """One a second, in which others use so many processors; then OSError."""

    def each() -> Iterator[Reading]:
        used = 0.0
        yield Reading(at=0, all=0, own=0)
        for second, more in enumerate(others, 1):
            used += more
            yield Reading(at=second, all=used, own=0)

    source = each()

    def read() -> Reading:
        for reading in source:
            return reading
        raise OSError("no more")

    return read


async def told(
    autojump_clock: trio.testing.MockClock, *others: float, working: Callable[[], bool] = lambda: True
) -> list[tuple[str, float]]:
    team = FakeTeam()
    with pytest.raises(OSError, match="no more"):
        await watch(team, 0, working, readings(*others))
    return team.told


async def test_a_team_for_as_long_as_there_are_others(autojump_clock: trio.testing.MockClock) -> None:
    """It comes with them and goes three seconds after them."""
    assert await told(autojump_clock, 0, 1, 1, 0, 0, 0, 0) == [("start", 2), ("stop", 6), ("stop", 8)]


async def test_a_second_counts_that_began_with_work(autojump_clock: trio.testing.MockClock) -> None:
    """What others did before the first request came says nothing of the time after it."""
    works = iter([False, True, True, False, True, True, True])
    told_then = await told(autojump_clock, 1, 1, 0, 1, 1, 0, 1, working=lambda: next(works))
    assert told_then == [("start", 7), ("stop", 8)]


async def test_it_never_outlives_the_watch(autojump_clock: trio.testing.MockClock) -> None:
    """Whatever ends the watch ends the team."""
    team = FakeTeam()
    with trio.move_on_after(3.5):
        await watch(team, 0, lambda: True, readings(*[1.0] * 9))
    assert team.told == [("start", 2), ("stop", 3.5)]


async def test_idle_seconds_do_not_count(autojump_clock: trio.testing.MockClock) -> None:
    """Without requests others may do as they like."""
    team_told = await told(autojump_clock, 1, 1, 1, working=lambda: False)
    assert team_told == [("stop", 4)]


@pytest.mark.parametrize("variable", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
async def test_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Who has said how threads wait is not overruled: the watch does not even begin."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "100000")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert chose_spinning()
    monkeypatch.setenv(variable, "5" if variable == "GOMP_SPINCOUNT" else "active")
    assert not chose_spinning()
    await watch_processors(1, {0, 1}, lambda: True)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat")
async def test_the_watch_of_this_machine(monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock) -> None:
    """It reads what this system tells, until it is cancelled."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "100000")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    processors = os.sched_getaffinity(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_processors, len(processors), processors, lambda: False)
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()
