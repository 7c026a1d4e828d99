"""Speculation: decoding with drafts against plain decoding, on a text to be copied with a change and on free text.

Two of our servers stay up; each round measures both, who goes first alternates.
"""

import argparse
import json
import shlex
import statistics
from collections.abc import Sequence
from typing import Any, Final

import trio

from tools.bench.load import Address, Recording, chat, request, wait_idle
from tools.bench.prompts import Prompts
from tools.bench.ratios import ours_first
from tools.bench.servers import Common, Server, our_spec, start

COPY_TOKENS: Final = 160
FREE_TOKENS: Final = 96
_FUNCTION: Final = """def {name}(values, limit):
    \"\"\"Return the {name} of all values up to the limit.\"\"\"
    result = {start}
    for value in values:
        if value <= limit:
            result = combine_{name}(result, value)
    return result
"""
_NAMES: Final = (("total", 0), ("product", 1), ("maximum", -1), ("average", 0))


def copying(nonce: int) -> list[dict[str, Any]]:
    """A file of code, and the wish to have it back with one name changed."""
    code = "\n\n".join(_FUNCTION.format(name=f"{name}_{nonce}", start=first) for name, first in _NAMES)
    wish = "Rename the parameter limit to bound everywhere and answer with the whole file, nothing else."
    return [{"role": "user", "content": f"{wish}\n\n```python\n{code}```"}]


async def rate(address: Address, messages: list[dict[str, Any]], streams: int, tokens: int) -> float:
    """Tokens/s of all streams together, prompts left out."""
    await wait_idle(address)
    recordings = [Recording() for _ in range(streams)]
    async with trio.open_nursery() as nursery:
        for client, recording in enumerate(recordings):
            said = [{"role": "system", "content": f"You are assistant number {client}."}, *messages]
            nursery.start_soon(chat, address, said, tokens, recording)
    return sum((r.completion_tokens - 1) / (r.arrivals[-1] - r.arrivals[0]) for r in recordings)


async def drafted(address: Address) -> tuple[float, float]:
    """Tokens that were drafted since the start, and the accepted ones among them."""
    lines = (await request(address, "GET", "/metrics")).decode().splitlines()
    figures = dict(line.split() for line in lines if line.startswith("llamabox:tokens_drafted"))
    return (
        float(figures["llamabox:tokens_drafted_total"]),
        float(figures["llamabox:tokens_drafted_accepted_total"]),
    )


async def measure(args: argparse.Namespace) -> None:
    """Print a line a measurement and the ratios."""
    common = Common(model=args.model, parallel=args.streams, context=args.streams * 2048, threads=args.threads)
    servers: dict[str, Server] = {}
    figures: dict[str, list[float]] = {}
    try:
        servers["plain"] = await start(our_spec(common))
        servers["drafts"] = await start(our_spec(common, None, shlex.split(args.flags)))
        for number in range(args.rounds):
            prompts = Prompts(seed=args.seed, scenario="speculation", round=number)
            tasks = (
                ("copy", copying(args.seed * 100 + number), COPY_TOKENS),
                ("free", prompts.question(0), FREE_TOKENS),
            )
            for place, (task, messages, tokens) in enumerate(tasks):
                if task not in args.tasks:
                    continue
                order = ["plain", "drafts"] if ours_first(number, place) else ["drafts", "plain"]
                before = await drafted(servers["drafts"].address)
                rates = {name: await rate(servers[name].address, messages, args.streams, tokens) for name in order}
                after = await drafted(servers["drafts"].address)
                counts = f"{after[1] - before[1]:.0f} of {after[0] - before[0]:.0f} drafted tokens right"
                print(f"round {number + 1}, {task}: plain {rates['plain']:.2f}, drafts {rates['drafts']:.2f}, {counts}")
                figures.setdefault(task, []).append(rates["drafts"] / rates["plain"])
    finally:
        with trio.CancelScope(shield=True):
            for server in servers.values():
                await server.stop()
    print(
        f"\n| {args.flags}, {args.streams} streams: drafts / plain, tokens/s | min | median | max |\n|---|---|---|---|"
    )
    for task, values in figures.items():
        print(f"| {task} | {min(values):.3f} | **{statistics.median(values):.3f}** | {max(values):.3f} |")
    print(json.dumps(figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table of ratios."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench speculation", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--flags", default="--lookup-ngram-min 2", help="what the drafting server is started with")
    parser.add_argument("--tasks", default="copy,free", type=lambda text: text.split(","))
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    trio.run(measure, parser.parse_args(arguments))
    return 0
