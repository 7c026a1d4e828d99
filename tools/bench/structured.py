"""JSON by schema: its speed against our own free text, and against llama-server's constrained output.

Both servers stay up; each round measures our free text, our JSON and llama-server's JSON, at 1 and at 8 streams.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from tools.bench.load import Address, Recording, chat, wait_idle
from tools.bench.peer import find_or_build
from tools.bench.prompts import Prompts
from tools.bench.servers import Common, has_amx, our_spec, start, their_spec

# Enums, arrays and nested objects; long enough that speed can be seen.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 60},
        "priority": {"enum": ["low", "normal", "high", "urgent"]},
        "customer": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 30},
                "kind": {"enum": ["private", "business"]},
                "address": {
                    "type": "object",
                    "properties": {
                        "street": {"type": "string", "maxLength": 30},
                        "city": {"type": "string", "maxLength": 20},
                        "country": {"enum": ["DE", "FR", "IT", "ES", "PL"]},
                    },
                    "required": ["street", "city", "country"],
                    "additionalProperties": False,
                },
            },
            "required": ["name", "kind", "address"],
            "additionalProperties": False,
        },
        "items": {
            "type": "array",
            "minItems": 4,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "product": {"type": "string", "maxLength": 24},
                    "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
                    "state": {"enum": ["ordered", "shipped", "delivered"]},
                    "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
                },
                "required": ["product", "quantity", "state", "tags"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "priority", "customer", "items"],
    "additionalProperties": False,
}
_FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": SCHEMA}}
CONSTRAINED: Final[dict[str, Any]] = {"response_format": _FORMAT, "ignore_eos": False}
MAX_TOKENS: Final = 400


async def rate(address: Address, prompts: Prompts, streams: int, fields: dict[str, Any] | None, tokens: int) -> float:
    """Tokens/s of all streams together, prompts left out: from the last first token on until the first end."""
    await wait_idle(address)
    recordings = [Recording() for _ in range(streams)]
    async with trio.open_nursery() as nursery:
        for client, recording in enumerate(recordings):
            messages = [
                *prompts.question(client),
                {"role": "user", "content": "Invent an order of four products, as JSON."},
            ]
            nursery.start_soon(chat, address, messages, tokens, recording, fields)
    if fields is not None:
        for recording in recordings:
            json.loads(recording.text)
    return sum((r.completion_tokens - 1) / (r.arrivals[-1] - r.arrivals[0]) for r in recordings)


async def measure(args: argparse.Namespace) -> None:
    """Print a line a round and the ratios."""
    common = Common(model=args.model, parallel=9, context=9 * 4096, threads=args.threads, extra=())
    peer = args.peer or find_or_build()
    ours = await start(our_spec(common, None, []))
    theirs = await start(their_spec(common, peer, [], repack=args.peer is None or not has_amx()))
    ratios: dict[str, list[float]] = {}
    try:
        for number in range(args.rounds):
            for streams in (1, 8):
                prompts = Prompts(seed=args.seed, scenario=f"json{streams}", round=number)
                free = await rate(ours.address, prompts, streams, None, 160)
                mine = await rate(ours.address, prompts, streams, CONSTRAINED, MAX_TOKENS)
                their = await rate(theirs.address, prompts, streams, CONSTRAINED, MAX_TOKENS)
                print(f"round {number + 1}, {streams} streams: free {free:.2f}, JSON {mine:.2f}, theirs {their:.2f}")
                ratios.setdefault(f"{streams} streams, JSON / free text", []).append(mine / free)
                ratios.setdefault(f"{streams} streams, JSON: ours / theirs", []).append(mine / their)
    finally:
        with trio.CancelScope(shield=True):
            await ours.stop()
            await theirs.stop()
    print("\n| compared, tokens/s | min | median | max |\n|---|---|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {min(values):.3f} | **{statistics.median(values):.3f}** | {max(values):.3f} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table of ratios."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench json", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer", type=Path, help="a llama-server; default: built once, see the peer command")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    trio.run(measure, parser.parse_args(arguments))
    return 0
