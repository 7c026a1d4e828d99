"""What the server adds to an image: against the bare library, with previews, in a queue, and beside everything else.

The bare library is stable-diffusion-cpp-python's own class in a process of its own, same file, size, steps and threads;
both make images in turn.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tools.bench.load import Address, LoadError, connection, encode_request, exchange
from tools.bench.servers import HOST, Server, ServerSpec, start

PATH = "/v1/images/generations"

# Arguments: model, TAESD or "", threads, side, steps. An image for each line of input; prints the seconds that it took.
_BARE = """
import sys, time
from stable_diffusion_cpp import StableDiffusion
model, taesd, (threads, side, steps) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:])
library = StableDiffusion(model_path=model, taesd_path=taesd, n_threads=threads, verbose=False)
for line in sys.stdin:
    began = time.perf_counter()
    library.generate_image(
        prompt="a cat", width=side, height=side, sample_steps=steps, seed=1, cfg_scale=1.0, sample_method="euler"
    )
    print("seconds", time.perf_counter() - began, flush=True)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench images", description=__doc__)
    parser.add_argument("--model", required=True, help="an image model")
    parser.add_argument("--taesd", default="", help="its TAESD")
    parser.add_argument("--text-model", help="measures text beside images, too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=96, help="of the text that is written meanwhile")
    trio.run(_run, parser.parse_args(arguments))
    return 0


async def _run(args: argparse.Namespace) -> None:
    print("| what | min | median | max | target |\n|---|---|---|---|---|")
    parts = ("--image-taesd-model", args.taesd) if args.taesd else ()
    image = (*parts, "--image-niceness", "0", "-t", str(args.threads), "--host", HOST)
    async with _served("--images", "-m", args.model, *image) as server, _bare(args) as bare:
        await _alone(server, bare, args)
    if args.text_model is not None:
        text = ("-m", args.text_model, "-c", "2048", "--image-model", args.model, *parts, "-t", str(args.threads))
        async with _served(*text, "--host", HOST) as server:
            await _beside_text(server, args)


async def _alone(server: Server, bare: Callable[[], Awaitable[float]], args: argparse.Namespace) -> None:
    ours, previewed, queued, lags = [], [], [], []
    await bare()
    await _image(server.address, args)  # the first one of each finds cold caches
    for _ in range(args.rounds):
        alone = await bare()
        plain = await _image(server.address, args)
        ours.append(plain / alone)
        previewed.append(await _image(server.address, args, stream=True, preview=True) / plain)
        queued.append(await _queue(server.address, args, 8) / (8 * plain))
        lags += await _lags(server.address, args)
    _row("an image: ours / the bare library", ours, "≤ 1.02")
    _row("with previews (fast) / without", previewed, "≤ 1.05")
    _row("8 requests at once / 8 x one", queued, "≤ 1")
    lags.sort()
    p99 = lags[len(lags) * 99 // 100]
    print(f"| GET /health while an image is made, ms, {len(lags)} times | {lags[0]:.1f} |", end=" ")
    print(f"**{statistics.median(lags):.1f}** | p99 {p99:.1f}, most {lags[-1]:.1f} | p99 ≤ 20 |")


async def _beside_text(server: Server, args: argparse.Namespace) -> None:
    """Tokens per second of one stream while images are made one after the other, and without."""
    shares, slower = [], []
    await _text(server.address, args)
    await _image(server.address, args)
    for _ in range(args.rounds):
        plain = await _text(server.address, args)
        one = await _image(server.address, args)
        made: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_images, server.address, args, made)
            shares.append(plain / await _text(server.address, args))
            nursery.cancel_scope.cancel()
        slower += [seconds / one for seconds in made]
    _row("text tokens/s beside images / alone", shares, "")
    if slower:
        _row("an image beside a text stream / alone", slower, "")


async def _images(address: Address, args: argparse.Namespace, made: list[float]) -> None:
    while True:
        made.append(await _image(address, args))


async def _image(address: Address, args: argparse.Namespace, **more: Any) -> float:
    """Seconds of a request."""
    size = f"{args.side}x{args.side}"
    body = {"prompt": "a cat", "size": size, "sample_steps": args.steps, "seed": 1, "cfg_scale": 1, "sampler": "euler"}
    return await _timed(address, PATH, {**body, **more})


async def _text(address: Address, args: argparse.Namespace) -> float:
    body = {"prompt": "The story of a cat:", "max_tokens": args.tokens, "temperature": 0, "ignore_eos": True}
    return await _timed(address, "/v1/completions", body)


async def _queue(address: Address, args: argparse.Namespace, count: int) -> float:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(_image, address, args)
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
        await _image(address, args)
        nursery.cancel_scope.cancel()
    return lags


async def _timed(address: Address, path: str, body: object) -> float:
    began = trio.current_time()
    async with connection(address) as stream:
        status, answer = await exchange(stream, encode_request("POST", path, address, body))
    if status != 200:
        msg = f"{path}: status {status}: {answer[:300]!r}"
        raise LoadError(msg)
    return trio.current_time() - began


@asynccontextmanager
async def _served(*flags: str) -> AsyncIterator[Server]:
    command = (str(Path(sys.executable).with_name("llama-box")), *flags)
    server = await start(ServerSpec(name="ours", command=command))
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def _bare(args: argparse.Namespace) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    arguments = [args.model, args.taesd, str(args.threads), str(args.side), str(args.steps)]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", _BARE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both are pipes

    async def make() -> float:
        await process.stdin.send_all(b"\n")
        told = b""
        while not told.endswith(b"\n"):
            told += await process.stdout.receive_some()
        return float(told.split()[-1])

    try:
        yield make
    finally:
        await process.stdin.aclose()
        await process.wait()


def _row(name: str, values: Sequence[float], target: str) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"| {name} | {low:.3f} | **{middle:.3f}** | {high:.3f} | {target} |", flush=True)
