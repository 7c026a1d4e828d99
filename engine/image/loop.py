"""The body of the image thread: drain, take the next image of the first request, make it, publish."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import attrs

from engine.errors import EngineError, EngineUnavailable, NativeError
from engine.image.backend import ImageBackend
from engine.image.commands import Cancel, Command, Mailbox, Stop, Submit
from engine.image.events import (
    ImageDone,
    ImageEvent,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    ImagesFailed,
    ImagesFinished,
    ImageTimings,
)
from engine.image.info import ImageProgressState, ImageStats
from engine.image.job import Job
from engine.image.requests import ImageRequest, UpscaleRequest
from engine.native.sd.context import Generated
from engine.native.sd.image import RgbImage

log = logging.getLogger("engine.image")

type Publish = Callable[[list[tuple[Mailbox, ImageEvent]]], None]


@attrs.frozen
class StartedImages:
    """An image engine that is ready to run: what a starter makes on the image thread."""

    backend: ImageBackend
    loop: "ImageLoop"


class ImageLoop:
    """Makes images until it is stopped: one at a time, first come first served. One thread.

    ``commands``, ``abort`` and ``current`` are for others. ``publish`` gets events as they come; it must neither block
    nor raise.
    """

    def __init__(self, backend: ImageBackend, publish: Publish, *, clock: Callable[[], float] = monotonic) -> None:
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.stats = ImageStats()
        self._backend = backend
        self._publish = publish
        self._clock = clock
        self._jobs: deque[Job] = deque()  # the first one is being worked on
        self._outbox: list[tuple[Mailbox, ImageEvent]] = []
        self._stopping = False
        self._lock = threading.Lock()  # over the two below: an abort must meet the image that it is meant for
        self._running: Job | None = None
        self._aborted = False

    # --- for other threads ---

    def abort(self, request_id: str | None = None) -> None:
        """Stop the running image if it is of this request; None: of any. The Cancel or Stop must be in the queue."""
        with self._lock:
            if self._running is not None and request_id in (None, self._running.request.id):
                self._aborted = True
                self._backend.abort()

    def current(self) -> ImageProgressState | None:
        """What is being computed right now."""
        with self._lock:
            job = self._running
            if job is None:
                return None
            return ImageProgressState(request=job.request, index=job.index, step=job.step, steps=job.steps)

    # --- the thread ---

    def run(self) -> None:
        """Serve until Stop. Every request that is left gets EngineUnavailable, also when the loop itself fails."""
        reason = "the server is shutting down"
        try:
            while not self._stopping:
                self.step()
        except BaseException as error:
            reason = f"the image engine failed: {error}"
            raise
        finally:
            self._running = None
            for job in self._jobs:
                self._post(job, ImagesFailed(error=EngineUnavailable(reason)))
            self._jobs.clear()
            self._flush()

    def step(self) -> None:
        """One turn: one image, or wait for a command when there is none to make."""
        while not self.commands.empty():
            self._obey(self.commands.get())
        if self._stopping:
            return
        self._tell_positions()
        self._flush()
        if not self._jobs:
            self._obey(self.commands.get())
            return
        job = self._jobs[0]
        if not self._begin(job):
            return  # a command came just now: it may be about this request
        try:
            self._work(job)
        except EngineError as error:
            log.warning("image %d of %d failed: %s", job.index + 1, job.n, error, extra=_tag(job))
            self.stats.images_failed_total += 1
            self._end_of(job, ImagesFailed(error=error))
        finally:
            self._end_image()
        self._flush()  # whoever reads that it has ended is not to find it running

    def _obey(self, command: Command) -> None:
        match command:
            case Submit(request, mailbox):
                self._jobs.append(Job(request, mailbox, self._clock()))
            case Cancel(request_id):
                for job in self._jobs:
                    if job.request.id == request_id:
                        log.debug("cancelled after %d images", job.index, extra=_tag(job))
                        self._jobs.remove(job)
                        break
            case Stop():
                self._stopping = True
            case _:
                raise AssertionError(f"not a command: {command!r}")
        self._update_gauges()

    # --- an image ---

    def _begin(self, job: Job) -> bool:
        """From here on an abort is meant for this image. False: look at the commands first."""
        with self._lock:
            self._backend.clear_abort()
            self._aborted = False
            if not self.commands.empty():
                return False
            self._running = job
            job.step = job.steps = 0
        if job.began is None:
            job.began = self._clock()
        return True

    def _end_image(self) -> None:
        with self._lock:
            self._running = None

    def _work(self, job: Job) -> None:
        match job.request:
            case ImageRequest():
                self._generate(job, job.request)
            case UpscaleRequest():
                self._upscale(job, job.request)
            case _:
                raise AssertionError(f"not a request: {job.request!r}")

    def _generate(self, job: Job, request: ImageRequest) -> None:
        params = attrs.evolve(request.params, seed=request.params.seed + job.index)
        if request.canny and params.control_image is not None:
            params = attrs.evolve(params, control_image=self._backend.find_edges(params.control_image))
        generated = self._backend.generate(
            params,
            lambda step, steps: self._progress(job, step, steps),
            lambda step, frame: self._preview(job, step, frame),
        )
        if self._aborted:
            return  # the Cancel or Stop that asked for it is in the queue
        if generated is None:
            raise NativeError("the image was aborted, and nobody had asked for it")
        began = self._clock()
        image = self._enlarge(generated.image, request.upscale_repeats)
        if image is None:
            return
        self._deliver(job, generated, image, params.seed, self._clock() - began, last=job.index + 1 == request.n)

    def _upscale(self, job: Job, request: UpscaleRequest) -> None:
        began = self._clock()
        image = self._enlarge(request.image, request.repeats)
        if image is None:
            return
        nothing = Generated(image=image, process_seconds=0.0, generate_seconds=0.0, steps=0)
        self._deliver(job, nothing, image, 0, self._clock() - began, last=True)

    def _enlarge(self, image: RgbImage, repeats: int) -> RgbImage | None:
        for _ in range(repeats):
            larger = self._backend.upscale(image)
            if self._aborted:
                return None
            if larger is None:
                raise NativeError("the upscaling was aborted, and nobody had asked for it")
            image = larger
        return image

    def _deliver(
        self, job: Job, generated: Generated, image: RgbImage, seed: int, upscale_seconds: float, *, last: bool
    ) -> None:
        timings = job.count(generated, upscale_seconds)
        stats = self.stats
        stats.process_seconds_total += timings.process_ms / 1000
        stats.generate_seconds_total += timings.generate_ms / 1000
        stats.generate_steps_total += timings.steps
        stats.images_total += 1
        self._post(job, ImageDone(index=job.index, image=image, seed=seed, timings=timings))
        _log_image(job, image, seed, timings)
        job.index += 1
        if last:
            self._end_of(job, ImagesFinished(timings=job.timings))

    def _progress(self, job: Job, step: int, steps: int) -> None:
        job.step, job.steps = step, steps
        log.debug("image %d of %d: step %d of %d", job.index + 1, job.n, step, steps, extra=_tag(job))
        if not self._aborted:
            self._publish([(job.mailbox, ImageProgress(index=job.index, step=step, steps=steps))])

    def _preview(self, job: Job, step: int, frame: RgbImage) -> None:
        if not self._aborted:
            event = ImagePreview(index=job.index, step=step, steps=job.steps, frame=frame)
            self._publish([(job.mailbox, event)])

    # --- ends ---

    def _end_of(self, job: Job, event: ImagesFinished | ImagesFailed) -> None:
        self._post(job, event)
        self._jobs.remove(job)
        self._update_gauges()

    def _tell_positions(self) -> None:
        for ahead, job in enumerate(self._jobs):
            if ahead and ahead != job.ahead:
                self._post(job, ImageQueued(ahead=ahead))
            job.ahead = ahead

    def _update_gauges(self) -> None:
        self.stats.requests_processing = min(1, len(self._jobs))
        self.stats.requests_deferred = max(0, len(self._jobs) - 1)

    def _post(self, job: Job, event: ImageEvent) -> None:
        self._outbox.append((job.mailbox, event))

    def _flush(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._publish(outbox)


def _log_image(job: Job, image: RgbImage, seed: int, timings: ImageTimings) -> None:
    """An image takes so long that it deserves a line of its own beside that of its request."""
    log.info(
        "image %d of %d: %dx%d, seed %d, %d steps in %.1f s after %.1f s of encoding",
        job.index + 1, job.n, image.width, image.height, seed, timings.steps, timings.generate_ms / 1000,
        timings.process_ms / 1000, extra=_tag(job),
    )  # fmt: skip


def _tag(job: Job) -> dict[str, str]:
    return {"request_id": job.request.id}
