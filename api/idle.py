"""How long a connection may wait for its next request: one task a connection, whatever it serves.

Hypercorn starts a task for every wait and cancels it with every request.
"""

import math
from collections.abc import Awaitable, Callable, Iterator

import trio
from hypercorn.typing import SingleTask, TaskGroup


class IdleLimit(SingleTask):
    """Stands where Hypercorn expects the task that ends an idle connection.

    ``limits``: seconds of each wait in turn. ``terminated`` returns when the server ends its connections.
    """

    def __init__(self, limits: Iterator[float], terminated: Callable[[], Awaitable[None]]) -> None:
        self._limits = limits
        self._terminated = terminated
        self._scope = trio.CancelScope()
        self._deadline = math.inf  # of the current wait; infinite while a request is served
        self._watching = False
        self._over = False

    async def restart(self, task_group: TaskGroup, action: Callable[[], Awaitable[None]]) -> None:
        """A wait begins; ``action`` is for its end."""
        self._set(trio.current_time() + next(self._limits))
        if not self._watching:
            self._watching = True
            task_group.spawn(self._watch, action)

    async def stop(self) -> None:
        """A request has come."""
        self._set(math.inf)

    def end(self) -> None:
        """The connection is gone: nothing is to be ended any more."""
        self._over = True
        self._set(math.inf)
        self._scope.cancel()

    def _set(self, deadline: float) -> None:
        self._deadline = self._scope.deadline = deadline

    async def _watch(self, action: Callable[[], Awaitable[None]]) -> None:
        while not self._over:
            with trio.CancelScope(deadline=self._deadline) as self._scope:
                await self._terminated()
            if self._scope.cancelled_caught and self._deadline > trio.current_time():
                continue  # a request came just as the limit passed, or the connection is gone
            if self._deadline < math.inf:
                await action()
            return  # a connection that is served when the server ends is closed behind its response
