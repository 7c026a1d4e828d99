"""The task that ends idle connections: by a virtual clock."""

import math
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from api.idle import IdleLimit


@attrs.define
class Group:
    """What of Hypercorn's task group is used."""

    nursery: trio.Nursery
    spawned: int = 0

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        self.spawned += 1
        self.nursery.start_soon(function, *args)


@attrs.define
class Rig:
    """A connection with 60 s for the first request and 15 s for the others."""

    group: Group
    terminated: trio.Event = attrs.field(factory=trio.Event)
    ended: float = math.inf  # when the connection was ended
    limit: IdleLimit = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limit = IdleLimit(chain((60.0,), repeat(15.0)), self.terminated.wait)

    async def _end(self) -> None:
        self.ended = trio.current_time()

    async def wait(self) -> None:
        await self.limit.restart(self.group, self._end)


def rig(nursery: trio.Nursery) -> Rig:
    return Rig(Group(nursery))


async def test_the_first_request_has_a_limit_of_its_own(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        made = rig(nursery)
        await made.wait()
    assert made.ended - began == pytest.approx(60)


async def test_each_wait_begins_anew_and_one_task_serves_them_all(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        made = rig(nursery)
        await made.wait()
        for _ in range(3):
            await trio.sleep(10)
            await made.limit.stop()
            await trio.sleep(100)  # a request may take longer than any wait
            await made.wait()
    assert made.ended - began == pytest.approx(3 * 110 + 15)
    assert made.group.spawned == 1


async def test_a_request_that_comes_as_the_limit_passes_is_served(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        made = rig(nursery)
        await made.wait()
        made.limit._scope.cancel()  # the limit has passed, its task has not run yet
        await made.limit.stop()
        await trio.sleep(1000)
        assert made.ended == math.inf
        made.limit.end()


async def test_the_servers_end_ends_an_idle_connection_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        made = rig(nursery)
        await made.wait()
        made.terminated.set()
    assert made.ended == began


async def test_the_servers_end_lets_a_request_finish(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        made = rig(nursery)
        await made.wait()
        await made.limit.stop()
        made.terminated.set()
    assert made.ended == math.inf


@pytest.mark.parametrize("serving", [False, True])
async def test_a_connection_that_is_gone_leaves_no_task(autojump_clock: MockClock, *, serving: bool) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        made = rig(nursery)
        await made.wait()
        if serving:
            await made.limit.stop()
        await trio.testing.wait_all_tasks_blocked()
        made.limit.end()
    assert made.ended == math.inf
    assert trio.current_time() == began
