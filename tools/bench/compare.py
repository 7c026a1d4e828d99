"""Rounds of scenarios against llama-box and llama-server in turn, and the table of ratios."""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import attrs
import trio

from tools.bench.load import LoadError, Recording, chat, tokens_per_word, wait_idle
from tools.bench.peer import find_or_build
from tools.bench.prompts import WORDS, Prompts
from tools.bench.ratios import Metric, Pair, ours_first, summarize, table
from tools.bench.scenarios import QUICK, SCENARIOS, Scenario, Sizes, Subject
from tools.bench.servers import Common, Server, ServerSpec, has_amx, our_spec, start, their_spec
from tools.bench.wire import ProtocolError

FAILURES = (LoadError, ProtocolError, OSError, trio.TooSlowError, trio.BrokenResourceError, ValueError)
IDLE_SECONDS = 2.0
IDLE_SHARE = 0.02  # of one core, above which an idle server disturbs the other's figures


@attrs.frozen(kw_only=True)
class Plan:
    """What to run."""

    specs: tuple[ServerSpec, ServerSpec]  # ours, theirs
    scenarios: tuple[Scenario, ...]
    sizes: Sizes
    rounds: int
    seed: int
    limit: float  # seconds that one scenario may take on one server


@attrs.define
class Comparison:
    """A running comparison: both servers stay up, one of them idle."""

    plan: Plan
    servers: dict[str, Server] = attrs.field(factory=dict)
    figures: dict[str, list[Pair]] = attrs.field(factory=dict)  # by scenario key
    failures: list[str] = attrs.field(factory=list)
    words: float = 1.0  # tokens per word of the model
    idle_share: dict[str, float] = attrs.field(factory=dict)  # of one core, by server

    async def run(self) -> None:
        """All rounds; failures are kept and the rest goes on. Raises LoadError when a server does not start."""
        try:
            for spec in self.plan.specs:
                await self._server(spec)
            await self._prepare()
            for number in range(self.plan.rounds):
                for index, scenario in enumerate(self.plan.scenarios):
                    await self._round(number, index, scenario)
        finally:
            with trio.CancelScope(shield=True):
                for server in self.servers.values():
                    await server.stop()

    async def _server(self, spec: ServerSpec) -> Server:
        """The running server of this name, started again if it died."""
        found = self.servers.get(spec.name)
        if found is None or not found.alive:
            found = self.servers[spec.name] = await start(spec)
            say(f"{spec.name}: ready after {found.ready_seconds:.2f} s, log {found.log}")
        return found

    async def _prepare(self) -> None:
        """Warm both servers up, learn the size of a word, see that an idle server is idle."""
        self.words = await tokens_per_word(self.servers["theirs"].address, WORDS)
        for server in self.servers.values():
            prompts = Prompts(seed=self.plan.seed, scenario="warm-up", round=0)
            await chat(server.address, prompts.question(0), 8, Recording())
        await trio.sleep(IDLE_SECONDS)
        before = {name: server.cpu_seconds() for name, server in self.servers.items()}
        await trio.sleep(IDLE_SECONDS)
        for name, server in self.servers.items():
            self.idle_share[name] = (server.cpu_seconds() - before[name]) / IDLE_SECONDS
            warning = " (it disturbs the other one)" if self.idle_share[name] > IDLE_SHARE else ""
            say(f"{name}: uses {self.idle_share[name]:.1%} of a core when idle{warning}")

    async def _round(self, number: int, index: int, scenario: Scenario) -> None:
        """One scenario on both servers, one after the other."""
        ours, theirs = self.plan.specs
        order = (ours, theirs) if ours_first(number, index) else (theirs, ours)
        found: dict[str, float] = {}
        for spec in order:
            figure = await self._measure(spec, number, scenario)
            if figure is not None:
                found[spec.name] = figure
        if len(found) == 2:
            self.figures.setdefault(scenario.metric.key, []).append(Pair(found["ours"], found["theirs"]))

    async def _measure(self, spec: ServerSpec, number: int, scenario: Scenario) -> float | None:
        """The figure of one server, or None and a note of the failure."""
        figure, began, cpu = None, time.monotonic(), time.process_time()
        try:
            with trio.fail_after(self.plan.limit):
                server = await self._server(spec)
                await wait_idle(server.address)
                prompts = Prompts(
                    seed=self.plan.seed, scenario=scenario.metric.key, round=number, tokens_per_word=self.words
                )
                figure = await scenario.run(Subject(server, prompts, self.plan.sizes))
        except* FAILURES as group:
            reason = "; ".join(str(error) or type(error).__name__ for error in leaves(group))
            self.failures.append(f"round {number + 1}, ({scenario.metric.key}), {spec.name}: {reason}")
            say(self.failures[-1])
        if figure is not None:
            took = time.monotonic() - began
            share = (time.process_time() - cpu) / took
            say(
                f"round {number + 1} ({scenario.metric.key}) {spec.name}: {figure:.4g} {scenario.metric.unit} "
                f"in {took:.1f} s, client {share:.1%} of a core"
            )
        return figure

    def results(self) -> list[tuple[Metric, Sequence[Pair]]]:
        """The figures of every scenario of the plan."""
        return [(s.metric, self.figures.get(s.metric.key, [])) for s in self.plan.scenarios]


def leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    """The exceptions in a group of groups."""
    found: list[Exception] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def say(line: str) -> None:
    """Progress, at once."""
    print(line, file=sys.stderr, flush=True)


def machine() -> str:
    """Processor and cores, as one line."""
    models = re.findall(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def portable(argv: Sequence[str]) -> str:
    """A command line as it can be published: absolute paths are cut to their last part."""
    return shlex.join(re.sub(r"^(--[\w-]+=)?/.*/", r"\1", word) for word in argv)


def section(comparison: Comparison, argv: Sequence[str]) -> str:
    """The Markdown section of a comparison."""
    plan = comparison.plan
    lines = [
        f"## {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}: {machine()}",
        "",
        f"llama-cpp-python {version('llama-cpp-python')}, {plan.rounds} rounds, seed {plan.seed}.",
        "",
        "```",
        f"python -m tools.bench compare {portable(argv)}",
        *(f"# {spec.name}: {portable(spec.command)}" for spec in plan.specs),
        "```",
        "",
        table(comparison.results()),
    ]
    if comparison.failures:
        lines += ["", "Failures:", "", *(f"- {failure}" for failure in comparison.failures)]
    return "\n".join(lines) + "\n"


def raw(figures: Mapping[str, Sequence[Pair]]) -> str:
    """Every figure as JSON."""
    return json.dumps({key: [attrs.asdict(pair) for pair in pairs] for key, pairs in figures.items()}, indent=1)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line of ``compare``."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench compare", description=__doc__)
    parser.add_argument("--model", required=True, help="GGUF file for both servers")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument(
        "--scenarios",
        default="abcdefgh",
        help="letters, default abcdefgh; i needs a small --context, j and k take long",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: checks that it works, measures little")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts, default 1")
    parser.add_argument("--limit", type=float, default=400.0, help="seconds for one scenario on one server")
    parser.add_argument("--threads", type=int, default=2, help="of each server, default 2")
    parser.add_argument("--parallel", type=int, default=9, help="slots, one more than the 8 streams by default")
    parser.add_argument("--context", type=int, default=9 * 4096, help="tokens, shared by the slots")
    parser.add_argument("--args", default="", help="more flags for both servers, as one word")
    parser.add_argument("--ours-command", help="run this in place of llama-box")
    parser.add_argument("--ours-args", default="", help="more flags for ours")
    parser.add_argument("--theirs-args", default="", help="more flags for theirs")
    parser.add_argument(
        "--repack", action=argparse.BooleanOptionalAction, help="theirs; default: off for --peer on AMX"
    )
    parser.add_argument("--peer", type=Path, help="a llama-server; default: built once, see the peer command")
    parser.add_argument("--out", type=Path, help="append the Markdown section to this file")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    args = parser.parse_args(argv)
    unknown = set(args.scenarios) - {s.metric.key for s in SCENARIOS}
    if unknown or args.rounds < 1:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}" if unknown else "--rounds must be at least 1")
    return args


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for; builds the peer if none is named."""
    common = Common(
        model=args.model,
        parallel=args.parallel,
        context=args.context,
        threads=args.threads,
        extra=tuple(shlex.split(args.args)),
    )
    ours = our_spec(common, args.ours_command, shlex.split(args.ours_args))
    repack = args.repack
    if repack is None:  # the peer that is built here has the cure for AMX; another one may crash
        repack = args.peer is None or not has_amx()
    theirs = their_spec(common, args.peer or find_or_build(), shlex.split(args.theirs_args), repack=repack)
    chosen = tuple(s for s in SCENARIOS if s.metric.key in args.scenarios)
    sizes = QUICK if args.quick else Sizes()
    return Plan(
        specs=(ours, theirs), scenarios=chosen, sizes=sizes, rounds=args.rounds, seed=args.seed, limit=args.limit
    )


def main(argv: Sequence[str]) -> int:
    """Run, print the table, write the files. Exit status 1 after a failure; a missed target is a result, not one."""
    args = parse(argv)
    comparison = Comparison(plan_of(args))
    trio.run(comparison.run)
    text = section(comparison, argv)
    print(text)
    for metric, pairs in comparison.results():
        if pairs and metric.target is not None and not metric.target.met(summarize(metric.comparison, pairs).median):
            say(f"target missed: ({metric.key}) {metric.title}")
    if args.out:
        with args.out.open("a") as file:
            file.write("\n" + text)
    if args.json:
        args.json.write_text(raw(comparison.figures))
    return 1 if comparison.failures else 0
