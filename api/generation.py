"""Runs a job: all its engine streams at once, merged for the one reader that turns them into a reply."""

import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import attrs
import trio

from api.errors import ApiError, as_api_error
from api.job import Job
from engine.bridge import TextEngine
from engine.mailboxes import EventStream
from engine.text.events import Event, Failed, Finished, PrefillProgress, Timings, Tokens
from engine.text.requests import TokenInfo
from llamabox.services import Services


@attrs.frozen
class Broken:
    """The whole job ends here: one of its choices failed."""

    error: ApiError


type Part = PrefillProgress | Tokens | Finished | Broken
type Item = tuple[int, Part]  # (choice, what it got)


class Generation:
    """The running choices of one job, read by one task.

    They are open in a task of the request's own nursery, so a response that ends and a client that leaves cancel them
    alike; no scope is held open across a response body.
    """

    def __init__(self, services: Services, engine: TextEngine, job: Job) -> None:
        self.job = job
        self.timings = [Timings()] * len(job.requests)  # the latest of each choice
        self._services = services
        self._engine = engine
        self._streams: list[EventStream] = []
        self._arrivals = trio.lowlevel.ParkingLot()
        self._refused: Item | None = None
        self._left = set(range(len(job.requests)))
        self._over = trio.Event()
        self._silence = math.inf
        self._since = trio.current_time()  # when the reader began to wait for something to say
        self._checked = -math.inf  # when a silence was looked for last
        self._waiting = False
        self._silent = False

    def start(self, nursery: trio.Nursery, silence: float = math.inf) -> None:
        """Open the streams. Never raises into the nursery: what goes wrong arrives as ``Broken``.

        ``silence``: after so many seconds a reader that waits is told that nothing came.
        """
        self._silence = silence
        nursery.start_soon(self._run)

    @property
    def left(self) -> int:
        """Choices that have not ended."""
        return len(self._left)

    def leave(self, choice: int) -> None:
        """The choice has ended for its reader: no more items of it. With the last one the engine ends them too."""
        if choice in self._left:
            self._left.remove(choice)
            self._services.metrics.count_generation(self.timings[choice])
            if not self._left:
                self._end()

    def listen(self) -> None:
        """A silence begins now."""
        self._since = trio.current_time()

    def tokens(self) -> tuple[int, int, int]:
        """(prompt, cached, generated) tokens so far; a prompt with several choices counts once."""
        prompts = self.timings[:: self.job.n]
        cached = sum(t.cache_n for t in prompts)
        return cached + sum(t.prompt_n for t in prompts), cached, sum(t.predicted_n for t in self.timings)

    async def receive(self) -> list[Item] | None:
        """Wait for an item and take along what is ready with it. Empty after the last one, None after a silence."""
        while True:
            items = self._take()
            if items or self._over.is_set():
                return items
            self._waiting = True
            try:
                await self._arrivals.park()
            finally:
                self._waiting = False
            if self._silent:
                self._silent = False
                return self._take() or None

    async def _run(self) -> None:
        """Submit in order, so that the engine sees the choices as the request has them; then hold them open."""
        async with AsyncExitStack() as stack:
            for choice, request in enumerate(self.job.requests):
                try:
                    stream = await stack.enter_async_context(self._engine.generate(request, self._arrivals))
                except Exception as error:
                    self._refused = (choice, Broken(as_api_error(error)))
                    self._arrivals.unpark_all()
                    break
                stack.enter_context(self._services.running.added(request))
                self._streams.append(stream)
            await self._watch()

    async def _watch(self) -> None:
        """Until all is over. Silences are noticed here: a timeout for each wait would cost more than rendering."""
        while not self._over.is_set():
            with trio.move_on_at(max(self._since, self._checked) + self._silence):
                await self._over.wait()
            self._checked = trio.current_time()
            if self._waiting and self._checked >= self._since + self._silence:
                self._silent = True
                self._arrivals.unpark_all()

    def _take(self) -> list[Item]:
        items: list[Item] = []
        for choice, stream in enumerate(self._streams):
            for event in stream.take():
                if choice not in self._left:
                    continue
                part = self._part(choice, event)
                items.append((choice, part))
                if isinstance(part, Broken):
                    self._end()
                    return items
        if self._refused is not None:
            items.append(self._refused)
        if not self._left or self._refused is not None:
            self._end()
        return items

    def _part(self, choice: int, event: Event) -> Part:
        if isinstance(event, Failed):
            return Broken(as_api_error(event.error))
        if not isinstance(event, PrefillProgress):
            self.timings[choice] = event.timings
        if isinstance(event, Finished):
            self._left.remove(choice)
            self._services.metrics.count_generation(event.timings)
            self._services.running.stopping_words[event.slot] = event.stopping_word
        return event

    def _end(self) -> None:
        """Nothing more is read: the streams may go, which cancels what still runs."""
        self._streams = []
        self._refused = None
        self._over.set()


async def drain(generation: Generation, take: Callable[[int, Tokens | Finished], None]) -> None:
    """Hand over what the choices get, as it comes, until all have ended. Raises ApiError when one fails."""
    while items := await generation.receive():
        for choice, part in items:
            if isinstance(part, Broken):
                raise part.error
            if not isinstance(part, PrefillProgress):
                take(choice, part)


@attrs.define
class Choice:
    """A whole choice."""

    finished: Finished
    text: str = ""
    tokens: list[int] = attrs.field(factory=list)
    infos: list[TokenInfo] = attrs.field(factory=list)
    prompt_infos: list[TokenInfo] = attrs.field(factory=list)


async def collect(generation: Generation) -> Sequence[Choice]:
    """Wait for all choices, in order. Raises ApiError when one fails."""
    parts: list[list[Tokens | Finished]] = [[] for _ in generation.job.requests]
    await drain(generation, lambda choice, part: parts[choice].append(part))
    return [_choice(given) for given in parts]


def _choice(parts: Sequence[Tokens | Finished]) -> Choice:
    *_, finished = parts
    assert isinstance(finished, Finished), "a drained generation has ended"
    tokens = [token for part in parts for token in part.tokens]
    infos = [info for part in parts for info in part.infos]
    prompt_infos = [info for part in parts for info in part.prompt_infos]
    return Choice(finished, "".join(part.text for part in parts), tokens, infos, prompt_infos)
