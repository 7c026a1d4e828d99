"""The real engine loop, scheduler and prefix cache on a machine that is not there: a cost model and a virtual clock.

Times to first token, gaps and throughput are the simulated machine's; the scheduler's time is this machine's, real.
"""

import argparse
import cProfile
import pstats
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np

from engine.native.context_params import MOST_SEQUENCES
from engine.text.plan import Limits
from engine.text.start import SPARE_SEQUENCES
from tools.bench.simulation import growth, plot
from tools.bench.simulation.cost import MACHINES, CostModel, fit, parse_point
from tools.bench.simulation.run import Measured, Simulation
from tools.bench.simulation.traces import KINDS, N_VOCAB, conversations

_LENGTHS = [256, 1024, 4096]
_COLUMNS = (
    "requests", "prompt tok/s", "output tok/s", "TTFT s 50/90/99 %", "gap ms 50/90/99 %", "mean s an answer", "cached",
    "preempted", "steps", "running 50/max", "cells max",
)  # fmt: skip
_REAL = ("steps", "scheduler+cache µs 50/99 %", "µs where ≥ 90 % of the slots run 50/99 % (steps)", "loop µs 50/99 %")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables. Returns 0; 2 for arguments that are refused."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        cost = fit([parse_point(point) for point in args.point]) if args.point else MACHINES[args.machine]
        if args.plot is not None:
            plot.require()
        limits = _limits(args)
    except (ValueError, plot.NoPlotError) as error:
        parser.error(str(error))
    print(f"{'fitted' if args.point else args.machine}: {cost}")
    print(f"{limits.n_slots} slots, {limits.n_seqs} sequences, {limits.n_cells:,} cells, batch {limits.n_batch}\n")
    results: dict[str, Measured] = {}
    profile = cProfile.Profile() if args.profile else None
    began = process_time()
    for kind in args.traces:
        trace = conversations(kind, args.requests, args.rate, args.output, args.seed)
        simulation = Simulation(limits, cost, trace, args.step_target, args.idle_age)
        results[kind] = profile.runcall(simulation.run) if profile else simulation.run()
    _print_table(("virtual time", *_COLUMNS), [[kind, *simulated(found)] for kind, found in results.items()])
    _print_table(("real time", *_REAL), [[kind, *real(found, limits.n_slots)] for kind, found in results.items()])
    if args.growth:
        _print_growth(args.growth, args.slots)
    print(f"{process_time() - began:.1f} s of processor time")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    if args.plot is not None:
        plot.save(args.plot, results)
    return 0


def simulated(found: Measured) -> list[str]:
    """The cells of a row about the simulated machine."""
    span = max(found.seconds, 1e-9)
    return [
        f"{found.n_requests:,}" + (f" ({found.n_cut} cut)" if found.n_cut else ""),
        f"{found.n_prompt / span:,.0f}",
        f"{found.n_output / span:,.0f}",
        _percentiles(found.ttft, (50, 90, 99), 1, ".3f"),
        _percentiles(found.gaps, (50, 90, 99), 1e3, ".1f"),
        f"{(sum(found.ttft) + sum(found.gaps)) / max(1, found.n_requests):.3f}",
        f"{found.n_cached / max(1, found.n_prompt):.1%}",
        f"{found.n_preempted}",
        f"{len(found.running):,}",
        _percentiles(found.running, (50, 100), 1, ".0f"),
        f"{max(found.cells, default=0):,}",
    ]


def real(found: Measured, n_slots: int) -> list[str]:
    """The cells of a row about this machine."""
    full = np.array(found.scheduler_ns)[np.array(found.running) >= 0.9 * n_slots]
    return [
        f"{len(found.running):,}",
        _percentiles(found.scheduler_ns, (50, 99), 1e-3, ".0f"),
        f"{_percentiles(full, (50, 99), 1e-3, '.0f')} ({len(full):,})",
        _percentiles(found.loop_ns, (50, 99), 1e-3, ".0f"),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench simulate", description=__doc__)
    parser.add_argument("--machine", choices=sorted(MACHINES), default="gpu", help="costs that are given")
    parser.add_argument(
        "--point", action="append", default=[], metavar="TOKENS,CELLS,SECONDS",
        help="a measured step; from 4 on the costs are fitted to them",
    )  # fmt: skip
    parser.add_argument("--traces", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--requests", type=int, default=1000, help="of each trace")
    parser.add_argument("--rate", type=float, default=40.0, help="requests/s that arrive on average")
    parser.add_argument("--output", type=int, default=64, help="mean tokens of an answer")
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument(
        "--sequences", type=int, help=f"ids of the KV cache; by default what the server takes, {MOST_SEQUENCES} at most"
    )
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--slot-context", type=int, default=32_768, help="most tokens of one request")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--step-target", type=float, default=0.150, help="seconds of a step while streams run")
    parser.add_argument(
        "--idle-age",
        type=int,
        metavar="TOKENS",
        help="computed tokens after which idle prefixes are dropped; by default what the measured costs give",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[16_384, 131_072, 1_048_576], metavar="CACHED",
        help="cached tokens for which the cost of a new request is measured; none: leave that out",
    )  # fmt: skip
    parser.add_argument("--profile", action="store_true", help="where the time goes (cProfile: it slows everything)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves: .png, .svg or .pdf")
    return parser


def _limits(args: argparse.Namespace) -> Limits:
    """Raises ValueError with the reason."""
    for name in ("requests", "rate", "output", "slots", "cells", "step_target", "idle_age"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0")
    sequences = args.sequences or max(args.slots, min(MOST_SEQUENCES, args.slots + SPARE_SEQUENCES))
    if sequences < args.slots:
        raise ValueError(f"{args.slots} slots need as many sequences")
    if args.batch < args.slots:
        raise ValueError(f"a batch of {args.batch} tokens is too small for {args.slots} slots")
    if any(cached < 2048 for cached in args.growth):
        raise ValueError("--growth takes 2048 cached tokens or more")
    return Limits(
        n_slots=args.slots,
        n_cells=args.cells,
        n_ctx_slot=min(args.slot_context, args.cells),
        n_batch=args.batch,
        n_seqs=sequences,
        n_vocab=N_VOCAB,
        can_shift=False,
        tile=16,
        slot_similarity=0.5,
    )


def _print_growth(cached: list[int], n_slots: int) -> None:
    steps = growth.decode_steps(n_slots, repeats=101)
    print(f"a step in which {n_slots} requests decode: {_percentiles(steps, (50, 99), 1, '.0f')} µs (50/99 %)\n")
    rows = growth.measure(cached, _LENGTHS, repeats=31)
    cells = [[f"{row.cached:,}", *(f"{row.microseconds[length]:.0f}" for length in _LENGTHS)] for row in rows]
    _print_table(("cached tokens", *(f"µs, new request of {length:,}" for length in _LENGTHS)), cells)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def _percentiles(values: Sequence[float], shares: Sequence[float], factor: float, form: str) -> str:
    if not len(values):
        return "-"
    return " / ".join(format(value * factor, form) for value in np.percentile(np.array(values), shares))


__all__ = ["CostModel", "main", "real", "simulated"]
