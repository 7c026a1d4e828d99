"""Runs a job: all its engine streams at once, merged into one channel that one reader turns into a reply."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

import attrs
import trio

from api.errors import ApiError, as_api_error
from api.job import Job
from engine.bridge import TextEngine
from engine.errors import EngineUnavailable
from engine.text.events import Event, Failed, Finished, PrefillProgress, Timings, Tokens
from engine.text.requests import TokenInfo
from llamabox.services import Services

_BUFFER: Final = 16  # events that may wait for the reader before the engine's own buffers fill
_AT_ONCE: Final = 64  # events that one read takes together


@attrs.frozen
class Broken:
    """The whole job ends here: one of its choices failed."""

    error: ApiError


type Part = PrefillProgress | Tokens | Finished | Broken
type Item = tuple[int, Part]  # (choice, what it got)


class Generation:
    """The running choices of one job.

    They run in the request's own nursery, so a response that ends and a client that leaves cancel them alike; no
    scope is held open across a response body.
    """

    def __init__(self, services: Services, engine: TextEngine, job: Job) -> None:
        self.job = job
        self.timings = [Timings()] * len(job.requests)  # the latest of each choice
        self._services = services
        self._engine = engine
        self._send, self._receive = trio.open_memory_channel[Item](_BUFFER)

    def start(self, nursery: trio.Nursery) -> None:
        """Open the streams. Never raises into the nursery: what goes wrong arrives as ``Broken``."""
        nursery.start_soon(self._run)

    def tokens(self) -> tuple[int, int, int]:
        """(prompt, cached, generated) tokens so far; a prompt with several choices counts once."""
        prompts = self.timings[:: self.job.n]
        cached = sum(t.cache_n for t in prompts)
        return cached + sum(t.prompt_n for t in prompts), cached, sum(t.predicted_n for t in self.timings)

    async def receive(self) -> list[Item]:
        """Wait for an item and take along what is ready with it. Empty after the last one."""
        items: list[Item] = []
        try:
            items.append(await self._receive.receive())
            while len(items) < _AT_ONCE:
                items.append(self._receive.receive_nowait())
        except (trio.EndOfChannel, trio.WouldBlock):
            pass
        return items

    async def _run(self) -> None:
        """Submit in order, so that the engine sees the choices as the request has them; then pump all at once."""
        async with self._send, AsyncExitStack() as stack:
            streams: list[AsyncIterator[Event]] = []
            for choice, request in enumerate(self.job.requests):
                try:
                    streams.append(await stack.enter_async_context(self._engine.generate(request)))
                except Exception as error:
                    await self._send.send((choice, Broken(as_api_error(error))))
                    return
            async with trio.open_nursery() as nursery:
                for choice, events in enumerate(streams):
                    nursery.start_soon(self._guard, choice, events, nursery.cancel_scope)

    async def _guard(self, choice: int, events: AsyncIterator[Event], all_choices: trio.CancelScope) -> None:
        """One choice, with its failure as an item that ends the other choices too."""
        with self._services.running.added(self.job.requests[choice]):
            try:
                await self._pump(choice, events)
            except Exception as error:
                await self._send.send((choice, Broken(as_api_error(error))))
                all_choices.cancel()

    async def _pump(self, choice: int, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            if not isinstance(event, PrefillProgress):
                self.timings[choice] = event.timings
            await self._send.send((choice, event))
            if isinstance(event, Finished):
                self._services.metrics.count_generation(event.timings)
                return
        raise EngineUnavailable("The engine ended the generation without a result")


@attrs.define
class Choice:
    """A whole choice."""

    finished: Finished
    text: str = ""
    tokens: list[int] = attrs.field(factory=list)
    infos: list[TokenInfo] = attrs.field(factory=list)


async def collect(generation: Generation) -> Sequence[Choice]:
    """Wait for all choices, in order. Raises ApiError when one fails."""
    count = len(generation.job.requests)
    texts: list[list[str]] = [[] for _ in range(count)]
    tokens: list[list[int]] = [[] for _ in range(count)]
    infos: list[list[TokenInfo]] = [[] for _ in range(count)]
    ends: dict[int, Finished] = {}
    while items := await generation.receive():
        for choice, part in items:
            if isinstance(part, Broken):
                raise part.error
            if isinstance(part, PrefillProgress):
                continue
            texts[choice].append(part.text)
            tokens[choice] += part.tokens
            infos[choice] += part.infos
            if isinstance(part, Finished):
                ends[choice] = part
    return [Choice(ends[i], "".join(texts[i]), tokens[i], infos[i]) for i in range(count)]
