"""What the server adds to an image: against the bare library, with previews, in a queue, and beside everything else."""

import argparse
import random
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tools.bench.image_client import Made, bare, image, watched
from tools.bench.load import Address, Recording, chat, connection, encode_request, exchange
from tools.bench.servers import HOST, Server, ServerSpec, start

PARTS = ("library", "previews", "queue", "small")
QUEUED = 8
_TEXT_CONTEXT = 2048
_MOST_TOKENS = 1900  # of a stream that goes on until it is no longer needed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench images", description=__doc__)
    parser.add_argument("--model", required=True, help="an image model")
    parser.add_argument("--taesd", default="", help="its TAESD")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what is measured; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="of each part; of library: pairs that count")
    parser.add_argument("--others", type=float, default=0.1, help="cores that others may use while a pair is made")
    parser.add_argument("--seconds", type=float, default=90, help="after which library takes no more pairs")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text-model", help="measures text beside images, too")
    parser.add_argument("--niceness", type=int, nargs="+", default=[10], help="--image-niceness beside text, in turn")
    parser.add_argument("--tokens", type=int, default=64, help="of the text that is written alone")
    trio.run(_run, parser.parse_args(arguments))
    return 0


async def _run(args: argparse.Namespace) -> None:
    print(
        "| what | min | quarter | median | three quarters | max | target |\n|---|---|---|---|---|---|---|", flush=True
    )
    parts = ("--image-taesd-model", args.taesd) if args.taesd else ()
    common = (*parts, "-t", str(args.threads), "--host", HOST)
    if args.parts:
        async with _served("--images", "-m", args.model, *common) as server:
            await _alone(server, args)
    if args.text_model is not None:
        text = ("-m", args.text_model, "-c", str(_TEXT_CONTEXT), "--image-model", args.model, *common)
        for niceness in args.niceness:
            async with _served(*text, "--image-niceness", str(niceness)) as server:
                await _beside_text(server.address, args, f"niceness {niceness}: ")


async def _alone(server: Server, args: argparse.Namespace) -> None:
    address, rounds = server.address, range(args.rounds)
    plain = [(await image(address, args)).seconds for _ in range(2)][-1]  # the first one finds cold caches
    if "library" in args.parts:
        await _library(server, args)
    if "previews" in args.parts:
        ratios = []
        for _ in rounds:
            plain = (await image(address, args)).seconds
            ratios.append(
                (await image(address, args, stream=True, stream_options={"preview_faster": True})).seconds / plain
            )
        _row("with previews (fast) / without", ratios, "≤ 1.05")
    if "queue" in args.parts:
        ratios = []
        for number in rounds:
            seconds = {}
            for clients in (1, QUEUED) if number % 2 else (QUEUED, 1):
                seconds[clients] = await _queue(address, args, clients)
            ratios.append(seconds[QUEUED] / seconds[1])
        _row(f"{QUEUED} requests at once / one after the other", ratios, "≤ 1")
    if "small" in args.parts:
        lags = sorted([lag for _ in rounds for lag in await _lags(address, args)])
        _row(f"GET /health while an image is made, ms, {len(lags)} times", lags, "")
        print(f"| p99 of these | | | **{lags[len(lags) * 99 // 100]:.1f}** | | | ≤ 20 |", flush=True)


async def _library(server: Server, args: argparse.Namespace) -> None:
    """Pairs, in an order by chance. One during which other programs used the machine says nothing and is dropped."""
    chance, pairs, dropped = random.Random(1), [], 0  # noqa: S311 - no secret
    async with bare(args) as (pid, make):
        makers = {"bare": (pid, make), "ours": (server.process.pid, lambda: image(server.address, args))}
        await make()
        until = trio.current_time() + args.seconds
        while len(pairs) < args.rounds and trio.current_time() < until:
            order = chance.sample(list(makers), 2)
            made = {name: await watched(*makers[name]) for name in order}
            if max(others for _, others in made.values()) <= args.others:
                pairs.append((made["ours"][0], made["bare"][0]))
            else:
                dropped += 1
    if len(pairs) < 2:
        print(f"| an image: ours / the bare library | {dropped} of {dropped + len(pairs)} pairs dropped | | | | | |")
        return
    library_rows(pairs, dropped)


def library_rows(pairs: Sequence[tuple[Made, Made]], dropped: int) -> None:
    ours, theirs = zip(*pairs, strict=True)
    _row(f"the bare library, s ({len(pairs)} pairs, {dropped} dropped)", [made.seconds for made in theirs], "")
    _row("ours, s", [made.seconds for made in ours], "")
    _row("ours / the bare library, in pairs", [mine.seconds / other.seconds for mine, other in pairs], "≤ 1.02")
    middle = [statistics.median(made.seconds for made in side) for side in (ours, theirs)]
    print(f"| the same, of the medians | | | **{middle[0] / middle[1]:.3f}** | | | ≤ 1.02 |")
    _row("ours / its own call of the library", [made.seconds / made.inside for made in ours], "≤ 1.02")


async def _beside_text(address: Address, args: argparse.Namespace, name: str) -> None:
    """One stream's tokens per second while an image is made, and without; and the image's time likewise."""
    rates, shares, slower = [], [], []
    await image(address, args)
    await _text_rate(address, lambda recording: recording.reached(args.tokens))
    for _ in range(args.rounds):
        alone = (await image(address, args)).seconds
        rates.append(await _text_rate(address, lambda recording: recording.reached(args.tokens)))
        made: list[float] = []

        async def meanwhile(_: Recording, made: list[float] = made) -> None:
            made.append((await image(address, args)).seconds)

        shares.append(await _text_rate(address, meanwhile) / rates[-1])
        slower.append(made[0] / alone)
    _row(f"{name}text alone, tokens/s", rates, "")
    _row(f"{name}text beside an image / alone", shares, "≥ 0.5")
    _row(f"{name}an image beside text / alone", slower, "")


async def _text_rate(address: Address, meanwhile: Callable[[Recording], Awaitable[None]]) -> float:
    """Tokens per second of a stream from its first one until ``meanwhile`` has returned."""
    recording = Recording()
    async with trio.open_nursery() as nursery:
        messages = [{"role": "user", "content": "Tell a long story of a cat."}]
        nursery.start_soon(chat, address, messages, _MOST_TOKENS, recording)
        await recording.reached(1)
        await meanwhile(recording)
        count, seconds = len(recording.arrivals), trio.current_time() - recording.arrivals[0]
        nursery.cancel_scope.cancel()
    return (count - 1) / seconds


async def _queue(address: Address, args: argparse.Namespace, clients: int) -> float:
    """Seconds for ``QUEUED`` images, of which each of so many clients asks for its part, one after the other."""

    async def client() -> None:
        for _ in range(QUEUED // clients):
            await image(address, args)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)
    return trio.current_time() - began


async def _lags(address: Address, args: argparse.Namespace) -> list[float]:
    """Milliseconds of one small request after the other while an image is made."""
    lags: list[float] = []

    async def probe() -> None:
        async with connection(address) as stream:
            while True:
                began = trio.current_time()
                await exchange(stream, encode_request("GET", "/health", address))
                lags.append((trio.current_time() - began) * 1e3)
                await trio.sleep(0.005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe)
        await image(address, args)
        nursery.cancel_scope.cancel()
    return lags


@asynccontextmanager
async def _served(*flags: str) -> AsyncIterator[Server]:
    command = (str(Path(sys.executable).with_name("llama-box")), *flags)
    server = await start(ServerSpec(name="ours", command=command))
    try:
        yield server
    finally:
        await server.stop()


def _row(name: str, values: Sequence[float], target: str) -> None:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    print(
        f"| {name} | {min(values):.3f} | {low:.3f} | **{middle:.3f}** | {high:.3f} | {max(values):.3f} | {target} |",
        flush=True,
    )
