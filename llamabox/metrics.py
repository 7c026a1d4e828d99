"""What the server tells Prometheus. Names and their meaning are a promise to dashboards: keep them."""

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.image.info import ImageStats
from engine.text.events import Timings
from engine.text.info import EngineStats

PREFIX: Final = "llamabox:"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


def ratio(part: float, whole: float) -> float:
    """``part / whole``, 0 where there is no whole."""
    return part / whole if whole > 0 else 0.0


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


class _EngineCollector(Collector):
    """Reads the engine's own totals whenever somebody asks."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self.stats = stats
        self.image_stats: Callable[[], ImageStats] = ImageStats  # without an image engine they stand still

    def collect(self) -> Iterable[Metric]:
        stats = self.stats()
        yield from self._counters(stats)
        yield from self._gauges(stats)

    def _counters(self, stats: EngineStats) -> Iterable[Metric]:
        images = self.image_stats()
        yield _counter(
            "image_process_seconds_total", "Time spent on encoding prompts and images.", images.process_seconds_total
        )
        yield _counter(
            "image_generate_seconds_total", "Time spent on sampling and decoding.", images.generate_seconds_total
        )
        yield _counter("image_generate_steps_total", "Diffusion steps.", images.generate_steps_total)
        yield _counter("prompt_tokens_total", "Prompt tokens computed.", stats.prompt_tokens_total)
        yield _counter(
            "prompt_cached_tokens_total", "Prompt tokens that the cache saved.", stats.prompt_cached_tokens_total
        )
        yield from self._host_counters(stats)
        yield _counter("prompt_seconds_total", "Time spent on prompts.", stats.prompt_seconds_total)
        yield _counter("tokens_predicted_total", "Tokens generated.", stats.tokens_predicted_total)
        yield _counter(
            "tokens_predicted_seconds_total", "Time spent on generating.", stats.tokens_predicted_seconds_total
        )
        yield _counter("n_decode_total", "Calls of the native decode function.", stats.decode_total)
        yield _counter("media_total", "Images and stretches of sound computed.", stats.media_total)
        yield _counter("media_encoded_total", "Of these, encoded and not cached.", stats.media_encoded_total)
        yield _counter("preemptions_total", "Sequences that gave up their cells for others.", stats.preemptions_total)

    def _host_counters(self, stats: EngineStats) -> Iterable[Metric]:
        yield _counter(
            "host_cache_saved_tokens_total", "Tokens copied from the KV cache to memory.", stats.host_saved_total
        )
        yield _counter(
            "host_cache_restored_tokens_total", "Tokens copied from memory to the KV cache.", stats.host_restored_total
        )
        yield _counter(
            "host_cache_lost_tokens_total", "Tokens that left the KV cache without a copy.", stats.host_lost_total
        )
        yield _counter(
            "host_cache_save_seconds_total", "Time spent on copies to memory.", stats.host_save_seconds_total
        )
        yield _counter(
            "host_cache_restore_seconds_total", "Time spent on copies from memory.", stats.host_restore_seconds_total
        )

    def _gauges(self, stats: EngineStats) -> Iterable[Metric]:
        busy = ratio(stats.busy_slots_total, stats.decode_total)
        yield _gauge("n_busy_slots_per_decode", "Average sequences in a batch.", busy)
        images = self.image_stats()
        yield _gauge("image_steps_seconds", "Diffusion steps per second.", images.steps_per_second)
        prompt_rate = ratio(stats.prompt_tokens_total, stats.prompt_seconds_total)
        yield _gauge("prompt_tokens_seconds", "Average prompt tokens per second.", prompt_rate)
        rate = ratio(stats.tokens_predicted_total, stats.tokens_predicted_seconds_total)
        yield _gauge("predicted_tokens_seconds", "Average generated tokens per second.", rate)
        usage = ratio(stats.kv_cells_active, stats.kv_cells)
        yield _gauge("kv_cache_usage_ratio", "Share of the KV cache that running requests hold.", usage)
        yield _gauge("kv_cache_tokens", "Tokens in the KV cache that running requests hold.", stats.kv_cells_active)
        kept = stats.kv_cells_used - stats.kv_cells_active
        yield _gauge("kv_cache_reusable_tokens", "Tokens kept in the KV cache for prompts to come.", kept)
        yield _gauge("host_cache_bytes", "Memory that holds prompts which left the KV cache.", stats.host_bytes)
        yield _gauge("host_cache_tokens", "Tokens of these prompts.", stats.host_tokens)
        processing = stats.requests_processing + images.requests_processing
        yield _gauge("requests_processing", "Requests that are running.", processing)
        deferred = stats.requests_deferred + images.requests_deferred
        yield _gauge("requests_deferred", "Requests that wait for a slot.", deferred)


class _BuildCollector(Collector):
    def collect(self) -> Iterable[Metric]:
        facts = {"version": version("llama-box"), "python": platform.python_version()}
        yield InfoMetricFamily(PREFIX + "build", "What is running.", value=facts)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self, stats: Callable[[], EngineStats] = EngineStats) -> None:
        """``stats`` is asked at every scrape."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each counter, of use to nobody here
        self._registry = registry = CollectorRegistry()
        labels = ("route", "status")
        self._requests = Counter(PREFIX + "http_requests", "Responses.", labels, registry=registry)
        self._durations = Histogram(
            PREFIX + "request_duration_seconds",
            "From the request's head to the response's end.",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            PREFIX + "time_to_first_token_seconds",
            "From submission to the first token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._each = Histogram(
            PREFIX + "time_per_output_token_seconds",
            "Mean time from token to token of a generation.",
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self._drafted = Counter(PREFIX + "tokens_drafted", "Tokens that a draft proposed.", registry=registry)
        self._accepted = Counter(PREFIX + "tokens_drafted_accepted", "Proposed tokens accepted.", registry=registry)
        self._engine = _EngineCollector(stats)
        registry.register(self._engine)
        registry.register(_BuildCollector())
        ProcessCollector(registry=registry)

    def use_engine(self, stats: Callable[[], EngineStats]) -> None:
        """Ask ``stats`` for the engine's totals from now on."""
        self._engine.stats = stats

    def use_images(self, stats: Callable[[], ImageStats]) -> None:
        """Ask ``stats`` for the image engine's totals from now on."""
        self._engine.image_stats = stats

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """A response has ended. ``route`` is the rule, never the path: it is a label."""
        labels = (route, str(status))
        self._requests.labels(*labels).inc()
        self._durations.labels(*labels).observe(seconds)

    def count_generation(self, timings: Timings) -> None:
        """A generation has ended by itself."""
        if timings.predicted_n > 0:
            self._first.observe((timings.queue_ms + timings.prompt_ms) / 1e3)
        if timings.predicted_n > 1:
            self._each.observe(timings.predicted_ms / 1e3 / (timings.predicted_n - 1))
        self._drafted.inc(timings.draft_n)
        self._accepted.inc(timings.draft_n_accepted)

    def expose(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
