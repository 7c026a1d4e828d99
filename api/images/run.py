"""Runs an image job for the one reader that turns its events into a reply."""

import trio

from api.errors import as_api_error
from engine.image.events import ImageEvent, ImagesFailed, ImagesFinished
from engine.image.requests import ImageRequest
from engine.image_bridge import ImageEngine, ImageEventStream
from llamabox.services import Services


class ImageRun:
    """The events of one request, read by one task.

    It is open in a task of the request's own nursery, so a response that ends and a client that leaves cancel it
    alike; no scope is held open across a response body.
    """

    def __init__(self, services: Services, engine: ImageEngine, request: ImageRequest) -> None:
        self._services = services
        self._engine = engine
        self._request = request
        self._stream: ImageEventStream | None = None
        self._refused: Exception | None = None
        self._opened = trio.Event()
        self._over = trio.Event()

    def start(self, nursery: trio.Nursery) -> None:
        """Submit the request. Never raises into the nursery: what goes wrong is raised by ``receive``."""
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        try:
            async with self._engine.generate(self._request) as stream:
                with self._services.running.other():
                    self._stream = stream
                    self._opened.set()
                    await self._over.wait()
        except Exception as error:
            self._refused = error
            self._opened.set()

    async def receive(self) -> ImageEvent:
        """The next event; ImagesFinished is the last one. Raises ApiError when the job is refused or fails."""
        await self._opened.wait()
        if self._stream is None:
            assert self._refused is not None, "opened or refused"
            raise as_api_error(self._refused)
        event = await anext(self._stream)
        if isinstance(event, ImagesFinished | ImagesFailed):
            self._over.set()
        if isinstance(event, ImagesFailed):
            raise as_api_error(event.error)
        return event
