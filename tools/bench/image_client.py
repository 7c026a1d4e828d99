"""Who makes the images that are compared: our server, and the bare library in a process of its own.

The bare library is stable-diffusion-cpp-python's own class, same file, size, steps and threads.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from tools.bench.load import Address, request
from tools.bench.servers import CLOCK_TICKS, cpu_ticks

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

type Make = Callable[[], Awaitable["Made"]]


@attrs.frozen
class Made:
    """Seconds of an image: as its client waited for it, and of these within the library's call."""

    seconds: float
    inside: float


async def image(address: Address, args: argparse.Namespace, **more: Any) -> Made:
    """Ask our server for one, on a connection of its own. Raises LoadError."""
    size = f"{args.side}x{args.side}"
    body = {"prompt": "a cat", "size": size, "sample_steps": args.steps, "seed": 1, "cfg_scale": 1, "sampler": "euler"}
    began = trio.current_time()
    answer = await request(address, "POST", PATH, {**body, **more})
    seconds = trio.current_time() - began
    return Made(seconds, 0.0 if more else inside(json.loads(answer)["usage"], args.steps))


def inside(usage: dict[str, float], steps: int) -> float:
    """Seconds that the reply's figures tell of the library's call."""
    return (usage["time_to_process_ms"] + steps * usage["time_per_generation_ms"]) / 1e3


@asynccontextmanager
async def bare(args: argparse.Namespace) -> AsyncIterator[tuple[int, Make]]:
    """The library's process: its id, and what makes an image."""
    arguments = [args.model, args.taesd, str(args.threads), str(args.side), str(args.steps)]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", _BARE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both are pipes

    async def make() -> Made:
        await process.stdin.send_all(b"\n")
        told = b""
        while not told.endswith(b"\n") or not told.strip():
            told += await process.stdout.receive_some()
        seconds = float(told.split()[-1])
        return Made(seconds, seconds)

    try:
        yield process.pid, make
    finally:
        await process.stdin.aclose()
        await process.wait()


async def watched(pid: int, make: Make) -> tuple[Made, float]:
    """An image that process ``pid`` makes, and how much of one core other programs used meanwhile, this one too."""
    began, total, own = trio.current_time(), busy_seconds(), _used(pid)
    made = await make()
    others = (busy_seconds() - total) - (_used(pid) - own)
    return made, max(0.0, others) / (trio.current_time() - began)


def busy_seconds() -> float:
    """Processor seconds that all programs of this machine have used."""
    return busy_ticks(Path("/proc/stat").read_text()) / os.sysconf("SC_CLK_TCK")


def busy_ticks(stat: str) -> int:
    """All but idle and waiting, without guests (they are in user) and what a hypervisor took."""
    user, nice, system, _idle, _waiting, irq, softirq = map(int, stat.split("\n", 1)[0].split()[1:8])
    return user + nice + system + irq + softirq


def _used(pid: int) -> float:
    return cpu_ticks(Path(f"/proc/{pid}/stat").read_text()) / CLOCK_TICKS
