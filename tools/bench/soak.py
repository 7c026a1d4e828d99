"""Clients that come and go at random, round after round; between two rounds nothing of them may be left.

Chats, JSON by a schema, tools, grammars and several choices, streamed or not, with a small KV cache (sequences give way
to each other), host memory for prompts and lookup drafts; who leaves may do so at any moment. A server of its own
compares its KV books with the library's all the time.
"""

import argparse
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.models.tiny_llm import write_tiny_llm
from tools.bench.load import Address, Recording, chat, request, tokens_per_word, wait_idle
from tools.bench.prompts import WORDS, Prompts
from tools.bench.servers import HOST, Common, Server, ServerSpec, family, our_spec, start
from tools.bench.soaking import flat
from tools.bench.soaking.clients import FAILURES, Tally, visit
from tools.bench.soaking.flat import Sample
from tools.bench.soaking.visits import Leaving, Visit, plan

ZERO_METRICS: Final = ("requests_processing", "requests_deferred", "kv_cache_tokens")
# What a soak is about: without it, it has shown less than it should.
EXERCISED: Final = ("preemptions_total", "tokens_drafted_accepted_total", "host_cache_restored_tokens_total")
AGREED: Final = re.compile(r"the KV books agreed with the library's in (\d+) checks")
CHECKED: Final = f"{sys.executable} -m tools.bench.soaking.checked"
# A small KV cache that all slots share, drafts, and host memory that is soon full.
OWN_ARGS: Final = "-np 8 -c 2048 -kvu --lookup-ngram-min 2 --draft-min 1 --cache-ram 32"
IDLE_WITHIN: Final = 30.0  # seconds
LIMIT: Final = 240.0  # seconds that a client may take
SETTLED: Final = 3.0  # seconds after which an idle server has given free memory back
POLL_SECONDS: Final = 0.1


@attrs.frozen(kw_only=True)
class Soak:
    """How long, how hard. ``rate``: arrivals a second; ``most``: clients at once; ``every``: seconds of a round."""

    seed: int
    seconds: float
    every: float
    rate: float
    most: int


@attrs.define
class Watch:
    """A server of our own, seen from outside."""

    server: Server
    files: int  # open when it was idle for the first time
    began: float = attrs.field(factory=time.monotonic)
    samples: list[Sample] = attrs.field(factory=list)

    async def look(self, metrics: str) -> list[str]:
        """Take a sample of the idle server; what is wrong, seen from here."""
        if not self.server.alive:
            return [f"the server died, log {self.server.log}"]
        wrong = await files_left(self.server, self.files)
        self.samples.append(
            Sample(
                seconds=time.monotonic() - self.began,
                # Host memory for prompts has a limit of its own, and fills slowly.
                memory=self.server.memory().private - sum(samples(metrics, "host_cache_bytes")) / 1e6,
                threads=n_threads(self.server),
                files=self.server.open_files(),
            )
        )
        return wrong


def n_threads(server: Server) -> int:
    """Of the process and its children."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in family(server.process.pid))


def samples(metrics: str, name: str) -> list[float]:
    """Values of a metric in Prometheus text, whatever its prefix and labels."""
    pattern = rf"^\w+:{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)"
    return [float(value) for value in re.findall(pattern, metrics, re.MULTILINE)]


def leftovers(metrics: str) -> list[str]:
    """What the metrics say is still there; a metric that the server does not have says nothing."""
    return [f"{name} is {sum(found):g}" for name in ZERO_METRICS if any(found := samples(metrics, name))]


def checks(log: str) -> list[str]:
    """What is wrong with the log of a server that checks its books."""
    found = AGREED.search(log)
    if found is None or int(found[1]) == 0:
        return ["the KV books were never checked to the end"]
    return []


async def soak(address: Address, settings: Soak, watch: Watch | None = None) -> tuple[Tally, list[str]]:
    """All rounds. Returns what happened and what is wrong (nothing, if the server is sound)."""
    words = await tokens_per_word(address, WORDS)
    prompts = Prompts(seed=settings.seed, scenario="soak", round=0, tokens_per_word=words)
    tally, wrong = Tally(), list[str]()
    ends = time.monotonic() + settings.seconds
    number = 0
    while not wrong and (left := ends - time.monotonic()) > 1:
        await play(address, settings, number, min(left, settings.every), prompts, tally)
        wrong += tally.errors
        try:
            wrong += await after_round(address, prompts, number, tally, watch)
        except FAILURES as error:
            wrong.append(f"after round {number}: {error!r}")
        number += 1
    return tally, wrong


async def play(address: Address, settings: Soak, number: int, seconds: float, prompts: Prompts, tally: Tally) -> None:
    """One round: the clients come at their times, at most so many at once; who finds no place in time stays away."""
    places = trio.CapacityLimiter(settings.most)
    began = trio.current_time()

    async def come(what: Visit) -> None:
        try:
            await visit(address, what, attrs.evolve(prompts, round=number), tally, LIMIT)
        finally:
            places.release_on_behalf_of(what)

    async with trio.open_nursery() as nursery:
        for what in plan(settings.seed, number, settings.rate, seconds):
            await trio.sleep_until(began + what.arrives)
            with trio.move_on_at(began + seconds):
                await places.acquire_on_behalf_of(what)
                nursery.start_soon(come, what)


async def after_round(address: Address, prompts: Prompts, number: int, tally: Tally, watch: Watch | None) -> list[str]:
    """Wait until the server is idle, and look at what is left; a new request must work."""
    await wait_idle(address, IDLE_WITHIN)
    metrics = (await request(address, "GET", "/metrics")).decode()
    wrong = leftovers(metrics)
    talk = attrs.evolve(prompts, scenario="afterwards", round=number)
    await chat(address, [talk.opening(), talk.turn(0)], 16, Recording())
    await wait_idle(address, IDLE_WITHIN)
    seen = ""
    if watch is not None:
        await trio.sleep(SETTLED)
        wrong += await watch.look(metrics)
        if watch.samples:
            last = watch.samples[-1]
            seen = f", {last.memory:.1f} MB, {last.threads} threads, {last.files} files"
    totals = (f"{name} {sum(samples(metrics, name)):.0f}" for name in EXERCISED)
    print(f"round {number}: {tally.n_visits} visits so far{seen}; {', '.join(totals)}", flush=True)
    return wrong


async def soak_own(spec: ServerSpec, settings: Soak) -> tuple[Tally, list[str]]:
    """Like ``soak`` on a server of its own: what it holds must stay the same, and it must stop well."""
    server = await start(spec)
    try:
        warm = attrs.evolve(settings, seconds=settings.every / 4, every=settings.every / 4, seed=settings.seed + 1)
        tally, wrong = await soak(server.address, warm)
        watch = Watch(server, server.open_files())
        if not wrong:
            tally, wrong = await soak(server.address, settings, watch)
            wrong += flat.swellings(watch.samples)
            if settings.seconds >= 60 and server.alive:
                metrics = (await request(server.address, "GET", "/metrics")).decode()
                wrong += [f"{name} is 0: that was not tried" for name in EXERCISED if not any(samples(metrics, name))]
        grown = flat.growth(watch.samples)
        print("too short to judge memory" if grown is None else f"memory grew by {grown:.1f} MB after the warm-up")
    finally:
        status = await server.stop()
    if status not in (0, -signal.SIGINT, 128 + signal.SIGINT):
        wrong.append(f"the server ended with status {status}, log {server.log}")
    if "soaking.checked" in spec.command[2]:
        wrong += checks(server.log.read_text(errors="replace"))
    return tally, wrong


async def files_left(server: Server, before: int) -> list[str]:
    """What is wrong when more files than ``before`` stay open."""
    for _ in range(round(IDLE_WITHIN / POLL_SECONDS)):
        if server.open_files() <= before:
            return []
        await trio.sleep(POLL_SECONDS)
    return [f"{server.open_files()} open files, {before} before"]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line of ``soak``."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench soak", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", help="GGUF file: start a server of its own")
    where.add_argument("--tiny", action="store_true", help="the same with the tiny model of the tests: many requests")
    where.add_argument("--port", type=int, help="of a running server with --slots and --metrics")
    parser.add_argument("--host", default=HOST, help=f"of the running server, default {HOST}")
    parser.add_argument("--command", default=CHECKED, help="run this in place of llama-box with checked books")
    parser.add_argument("--args", default=OWN_ARGS, help=f"flags for the server, with --model; default {OWN_ARGS}")
    parser.add_argument("--seconds", type=float, default=60.0, help="default 60; 1200 for a whole soak")
    parser.add_argument("--every", type=float, default=15.0, help="seconds of a round, default 15")
    parser.add_argument("--rate", type=float, help="clients a second, default 1.7, with --tiny 20")
    parser.add_argument("--most", type=int, default=24, help="clients at once, default 24")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    args = parser.parse_args(argv)
    if args.rate is None:
        args.rate = 20.0 if args.tiny else 1.7
    if min(args.seconds, args.every, args.rate, args.most) <= 0:
        parser.error("--seconds, --every, --rate and --most must be more than 0")
    return args


def main(argv: Sequence[str]) -> int:
    """Run and report. Exit status 1 when anything is wrong."""
    args = parse(argv)
    settings = Soak(seed=args.seed, seconds=args.seconds, every=args.every, rate=args.rate, most=args.most)
    if args.port is not None:
        tally, wrong = trio.run(soak, Address(args.host, args.port), settings)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            model = str(write_tiny_llm(Path(scratch) / "tiny.gguf")) if args.tiny else args.model
            # The flags come last and win over those that all benchmarks share.
            spec = our_spec(Common(model=model), args.command, shlex.split(args.args))
            tally, wrong = trio.run(soak_own, spec, settings)
    for leaving in Leaving:
        print(f"{sum(n for (_, how), n in tally.visits.items() if how is leaving):5d} left {leaving.value}")
    for problem in wrong[:20]:
        print(f"wrong: {problem}", file=sys.stderr)
    print(f"soak: {tally.n_visits} clients, seed {args.seed}: {'nothing left behind' if not wrong else 'FAILED'}")
    return 1 if wrong else 0
