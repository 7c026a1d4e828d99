"""Curves beside the table. Needs matplotlib (dependency group ``bench``), and only when a plot is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tools.bench.simulation.run import Measured


class NoPlotError(Exception):
    """matplotlib is not installed."""


def require() -> None:
    """Raise NoPlotError with what to do where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NoPlotError("--plot needs matplotlib: uv pip install --group bench") from error


def save(path: Path, results: Mapping[str, Measured]) -> None:
    """A row a trace: times to first token, gaps, and the scheduler's time by running requests. The suffix decides."""
    require()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.4 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 3, squeeze=False)
    for row, (name, measured) in zip(axes, results.items(), strict=True):
        _share_below(row[0], measured.ttft, f"{name}: time to first token (s)")
        _share_below(row[1], measured.gaps, f"{name}: time between tokens (s)")
        row[2].plot(measured.running, np.array(measured.scheduler_ns) / 1e3, ".", markersize=2, alpha=0.3)
        row[2].axhline(200, color="black", linewidth=0.8, linestyle="--")
        row[2].set(xlabel="running requests", ylabel="µs a step", yscale="log", title=f"{name}: scheduler and cache")
    figure.savefig(path)


def _share_below(axes: object, values: Sequence[float], title: str) -> None:
    """The share of values that are no larger than x."""
    found = np.sort(np.array(values))
    axes.step(found, np.arange(1, len(found) + 1) / max(1, len(found)))  # type: ignore[attr-defined]
    axes.set(title=title, ylabel="share", xscale="log", ylim=(0, 1))  # type: ignore[attr-defined]
    axes.tick_params(axis="x", which="minor", labelbottom=False)  # type: ignore[attr-defined]
