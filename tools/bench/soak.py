"""Clients that come and go at random; afterwards nothing of them may be left in the server."""

import argparse
import enum
import random
import re
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Sequence

import attrs
import trio

from tools.bench.load import (
    Address,
    LoadError,
    Recording,
    chat,
    chat_body,
    connection,
    encode_request,
    exchange,
    request,
    wait_idle,
)
from tools.bench.prompts import Message, Prompts
from tools.bench.servers import HOST, Common, Server, ServerSpec, our_spec, start
from tools.bench.wire import ProtocolError

FAILURES = (LoadError, ProtocolError, OSError, trio.BrokenResourceError)
ZERO_METRICS = ("requests_processing", "requests_deferred", "kv_cache_tokens")
HALF_REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{"
MANY_TOKENS = 256  # more than most clients wait for
IDLE_WITHIN = 30.0  # seconds
POLL_SECONDS = 0.1


class Leaving(enum.Enum):
    """When a client goes."""

    HALF_REQUEST = "with its request half sent"
    BEFORE_ANSWER = "after sending, at a random moment"
    MID_STREAM = "after some tokens"
    WHOLE_ANSWER = "from a request without streaming, at a random moment"
    AT_END = "when it has everything"


@attrs.frozen
class Visit:
    """What one client does. Times in seconds."""

    client: int
    arrives: float
    leaving: Leaving
    patience: float  # for the two random moments
    events: int  # for MID_STREAM
    prompt: int  # tokens
    tokens: int
    shares_prompt: bool  # with the other clients that do


@attrs.define
class Tally:
    """What happened to the visits."""

    visits: Counter[Leaving] = attrs.field(factory=Counter)
    errors: list[str] = attrs.field(factory=list)


def plan(seed: int, clients: int, seconds: float) -> list[Visit]:
    """The visits of a soak: the same for the same arguments."""
    rng, kinds = random.Random(seed), list(Leaving)  # noqa: S311 - not a secret
    return [
        Visit(
            client=client,
            arrives=rng.uniform(0, seconds),
            leaving=kinds[client % len(kinds)],
            patience=rng.expovariate(1.0),
            events=rng.randint(1, 24),
            prompt=rng.choice((10, 50, 200, 600)),
            tokens=rng.randint(1, 32),
            shares_prompt=rng.random() < 0.5,
        )
        for client in range(clients)
    ]


def samples(metrics: str, name: str) -> list[float]:
    """Values of a metric in Prometheus text, whatever its prefix and labels."""
    pattern = rf"^\w+:{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)"
    return [float(value) for value in re.findall(pattern, metrics, re.MULTILINE)]


def leftovers(metrics: str) -> list[str]:
    """What the metrics say is still there; a metric that the server does not have says nothing."""
    return [f"{name} is {sum(found):g}" for name in ZERO_METRICS if any(found := samples(metrics, name))]


async def visit(address: Address, what: Visit, prompts: Prompts, tally: Tally) -> None:
    """One client: come, ask, leave."""
    await trio.sleep(what.arrives)
    messages = prompts.shared(what.client, what.prompt) if what.shares_prompt else prompts.question(what.client)
    try:
        await act(address, what, messages)
    except* FAILURES as group:
        tally.errors.append(f"client {what.client}, leaving {what.leaving.value}: {group.exceptions[0]!r}")
    else:
        tally.visits[what.leaving] += 1


async def act(address: Address, what: Visit, messages: Sequence[Message]) -> None:
    """The request of a client, up to where it goes."""
    match what.leaving:
        case Leaving.HALF_REQUEST:
            async with connection(address) as stream:
                await stream.send_all(HALF_REQUEST)
        case Leaving.BEFORE_ANSWER | Leaving.WHOLE_ANSWER:
            body = chat_body(messages, MANY_TOKENS, stream=what.leaving is Leaving.BEFORE_ANSWER)
            async with connection(address) as stream:
                with trio.move_on_after(what.patience):
                    await exchange(stream, encode_request("POST", "/v1/chat/completions", address, body))
        case Leaving.MID_STREAM:
            async with trio.open_nursery() as nursery:
                recording = Recording()
                nursery.start_soon(chat, address, messages, MANY_TOKENS, recording)
                await recording.reached(what.events)
                nursery.cancel_scope.cancel()
        case Leaving.AT_END:
            await chat(address, messages, what.tokens, Recording())


async def soak(address: Address, visits: Sequence[Visit], seed: int) -> tuple[Tally, list[str]]:
    """All visits, then the checks. Returns what happened and what is wrong (nothing, if the server is sound)."""
    prompts, tally = Prompts(seed=seed, scenario="soak", round=0), Tally()
    async with trio.open_nursery() as nursery:
        for what in visits:
            nursery.start_soon(visit, address, what, prompts, tally)
    wrong = list(tally.errors)
    try:
        await wait_idle(address, IDLE_WITHIN)
        wrong += leftovers((await request(address, "GET", "/metrics")).decode())
        await chat(address, [prompts.opening(), prompts.turn(0)], 16, Recording())
    except FAILURES as error:
        wrong.append(f"afterwards: {error!r}")
    return tally, wrong


async def soak_own(spec: ServerSpec, visits: Sequence[Visit], seed: int) -> tuple[Tally, list[str]]:
    """Like ``soak`` on a server of its own, which must keep no file open for clients that went and must stop well."""
    server = await start(spec)
    try:
        await chat(server.address, Prompts(seed=seed, scenario="warm-up", round=0).question(0), 4, Recording())
        files = server.open_files()
        tally, wrong = await soak(server.address, visits, seed)
        if server.alive:
            wrong += await files_left(server, files)
        else:
            wrong.append("the server died")
    finally:
        status = await server.stop()
    if status not in (0, -signal.SIGINT, 128 + signal.SIGINT):
        wrong.append(f"the server ended with status {status}, log {server.log}")
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
    where.add_argument("--port", type=int, help="of a running server with --slots and --metrics")
    parser.add_argument("--host", default=HOST, help=f"of the running server, default {HOST}")
    parser.add_argument("--command", help="run this in place of llama-box, with --model")
    parser.add_argument("--args", default="", help="more flags for the server, with --model")
    parser.add_argument("--clients", type=int, default=64, help="default 64")
    parser.add_argument("--seconds", type=float, default=30.0, help="over which they arrive, default 30")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run and report. Exit status 1 when anything is wrong."""
    args = parse(argv)
    visits = plan(args.seed, args.clients, args.seconds)
    if args.model:
        common = Common(model=args.model, parallel=4, context=4 * 2048)
        spec = our_spec(common, args.command, shlex.split(args.args))
        tally, wrong = trio.run(soak_own, spec, visits, args.seed)
    else:
        tally, wrong = trio.run(soak, Address(args.host, args.port), visits, args.seed)
    for leaving in Leaving:
        print(f"{tally.visits[leaving]:4d} left {leaving.value}")
    for problem in wrong:
        print(f"wrong: {problem}", file=sys.stderr)
    print(f"soak: {args.clients} clients, seed {args.seed}: {'nothing left behind' if not wrong else 'FAILED'}")
    return 1 if wrong else 0
