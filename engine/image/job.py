"""One request in the queue."""

import attrs

from engine.image.commands import Mailbox
from engine.image.events import ImageTimings
from engine.image.requests import AnyRequest, ImageRequest
from engine.native.sd.context import Generated


@attrs.define(eq=False)
class Job:
    """A request, and how far it is. Times in the clock's seconds."""

    request: AnyRequest
    mailbox: Mailbox
    submitted: float
    ahead: int = -1  # what the client was last told
    began: float | None = None
    index: int = 0  # of the next image
    step: int = 0
    steps: int = 0
    process_seconds: float = 0.0
    generate_seconds: float = 0.0
    steps_total: int = 0

    @property
    def n(self) -> int:
        """Images of the request."""
        return self.request.n if isinstance(self.request, ImageRequest) else 1

    @property
    def queue_ms(self) -> float:
        """How long it has waited for its first image to begin."""
        return 0.0 if self.began is None else 1000 * (self.began - self.submitted)

    def count(self, generated: Generated, upscale_seconds: float) -> ImageTimings:
        """Add an image's figures to the request's; the image's own are returned."""
        generate_seconds = generated.generate_seconds + upscale_seconds
        self.process_seconds += generated.process_seconds
        self.generate_seconds += generate_seconds
        self.steps_total += generated.steps
        return ImageTimings(
            queue_ms=self.queue_ms,
            process_ms=1000 * generated.process_seconds,
            generate_ms=1000 * generate_seconds,
            steps=generated.steps,
        )

    @property
    def timings(self) -> ImageTimings:
        """The request's figures so far."""
        return ImageTimings(
            queue_ms=self.queue_ms,
            process_ms=1000 * self.process_seconds,
            generate_ms=1000 * self.generate_seconds,
            steps=self.steps_total,
        )
