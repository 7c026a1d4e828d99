"""Read-only views that the image engine publishes: the model, its queue, its counters."""

import attrs

from engine.image.families import Kind
from engine.image.requests import AnyRequest


@attrs.frozen(kw_only=True)
class ImageModelInfo:
    """Facts of the loaded image model. Sizes in pixels."""

    path: str
    version: str  # the library's name of the model's kind, e.g. "SD 1.x"
    kind: Kind
    n_threads: int
    max_width: int
    max_height: int
    max_batch: int  # images of one request
    loras: tuple[str, ...] = ()  # files that requests may use
    has_control_net: bool = False
    upscale_factor: int = 0  # of one upscaling; 0: no upscaler
    can_abort: bool = False  # a running image can be stopped; else a cancelled one is computed to its end

    @property
    def default_width(self) -> int:
        """Of a request that names no size: the side that the model was trained with, within the limit."""
        return min(self.kind.defaults.size, self.max_width)

    @property
    def default_height(self) -> int:
        """The same of the height."""
        return min(self.kind.defaults.size, self.max_height)


@attrs.frozen(kw_only=True)
class ImageProgressState:
    """What the engine is computing right now."""

    request: AnyRequest
    index: int  # of the image within the request
    step: int
    steps: int  # 0: not yet known, the prompt is being encoded

    @property
    def request_id(self) -> str:
        return self.request.id


@attrs.define(kw_only=True)
class ImageStats:
    """Running totals since start (counters), and the state after the last event (gauges).

    The engine thread counts in one of them; others get copies, in which one figure may be a step ahead of another.
    """

    process_seconds_total: float = 0.0  # encoding prompts and images
    generate_seconds_total: float = 0.0  # sampling, decoding, upscaling
    generate_steps_total: int = 0
    images_total: int = 0
    images_failed_total: int = 0
    requests_processing: int = 0
    requests_deferred: int = 0

    @property
    def steps_per_second(self) -> float:
        """Average over all images."""
        return self.generate_steps_total / self.generate_seconds_total if self.generate_seconds_total else 0.0
