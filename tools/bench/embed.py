"""Embeddings and rerank: speed against llama-server, and whether both compute the same.

Both servers stay up and take turns; each round has its own texts, the same for both. The last lines compare results:
the smallest cosine of two vectors of one text, the largest difference of two raw scores.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tools.bench.load import Address, LoadError, connection, encode_request, exchange
from tools.bench.peer import find_or_build
from tools.bench.prompts import Prompts
from tools.bench.ratios import Comparison, Metric, Pair, Target, ours_first, table
from tools.bench.servers import Common, Server, has_amx, our_spec, start, their_spec

CLIENTS: Final = 8
FAST: Final = Target(1.3, at_least=True)
EVEN: Final = Target(1.0, at_least=True)

Vector = list[float]


def rate(key: str, title: str, unit: str, target: Target | None) -> Metric:
    """A figure that is better the higher it is."""
    return Metric(key=key, title=title, unit=unit, comparison=Comparison.OURS_OVER_THEIRS, target=target)


def cost_of(metric: Metric) -> Metric:
    """The processor time behind a speed: it varies less where the machine has other work."""
    title = f"{metric.title}: processor time a text"
    return Metric(key=metric.key, title=title, unit="ms", comparison=Comparison.THEIRS_OVER_OURS)


ONE_REQUEST: Final = rate("one", "all texts in one request", "texts/s", FAST)
SHARED_OUT: Final = rate("eight", "8 connections, a request each with its share", "texts/s", FAST)
ONE_BY_ONE: Final = rate("single", "8 connections, a text a request", "texts/s", FAST)
RERANK: Final = rate("rerank", "documents for one query in one request", "documents/s", EVEN)


@attrs.define
class Results:
    """Figures by metric, and how far the two servers' numbers are apart."""

    figures: dict[str, list[Pair]] = attrs.field(factory=dict)
    costs: dict[str, list[Pair]] = attrs.field(factory=dict)  # processor time of the servers
    cosine: float = 1.0  # the smallest of all
    difference: float = 0.0  # the largest of all

    def add(self, metric: Metric, speed: Pair, cost: Pair) -> None:
        """One round: texts per second, and the processor time of a text in milliseconds."""
        self.figures.setdefault(metric.key, []).append(speed)
        self.costs.setdefault(metric.key, []).append(cost)


async def post(stream: trio.SocketStream, address: Address, path: str, body: object) -> Any:
    """The decoded answer. Raises LoadError when the status is not 200."""
    status, answer = await exchange(stream, encode_request("POST", path, address, body))
    if status != 200:
        msg = f"{path}: status {status}: {answer[:300]!r}"
        raise LoadError(msg)
    return answer


def vectors(answer: bytes) -> list[Vector]:
    """The vectors of an answer in OpenAI's form, in the order of the texts."""
    data = sorted(json.loads(answer)["data"], key=lambda entry: entry["index"])
    return [entry["embedding"] for entry in data]


async def embed(address: Address, texts: Sequence[str], requests: int, clients: int) -> tuple[float, list[Vector]]:
    """Texts/s and the vectors: ``requests`` of equal shares, sent by ``clients`` connections one after the other.

    Decoding the answers is not part of the time.
    """
    shares = [list(texts[n::requests]) for n in range(requests)]
    answers: dict[int, bytes] = {}

    async def client(first: int) -> None:
        async with connection(address) as stream:
            for number in range(first, requests, clients):
                answers[number] = await post(stream, address, "/v1/embeddings", {"input": shares[number]})

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for first in range(clients):
            nursery.start_soon(client, first)
    seconds = time.perf_counter() - began
    found: list[Vector] = [[]] * len(texts)
    for number, answer in answers.items():
        found[number::requests] = vectors(answer)
    return len(texts) / seconds, found


async def rank(address: Address, query: str, documents: Sequence[str]) -> tuple[float, list[float]]:
    """Documents/s and the raw scores in the order of the documents."""
    body = {"query": query, "documents": list(documents), "normalize": False, "return_documents": False}
    async with connection(address) as stream:
        began = time.perf_counter()
        answer = await post(stream, address, "/v1/rerank", body)
        seconds = time.perf_counter() - began
    results = sorted(json.loads(answer)["results"], key=lambda result: result["index"])
    return len(documents) / seconds, [result["relevance_score"] for result in results]


def cosine(a: Vector, b: Vector) -> float:
    """Of two vectors that are not zero."""

    def dot(x: Vector, y: Vector) -> float:
        return sum(p * q for p, q in zip(x, y, strict=True))

    return float(dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5)


async def compare_embeddings(pair: Sequence[Server], args: argparse.Namespace, results: Results) -> None:
    """All rounds of the three ways to send the texts."""
    ways = ((ONE_REQUEST, 1, 1), (SHARED_OUT, CLIENTS, CLIENTS), (ONE_BY_ONE, args.texts, CLIENTS))
    for number in range(args.rounds):
        for index, (metric, requests, clients) in enumerate(ways):
            prompts = Prompts(seed=args.seed, scenario=metric.key, round=number)
            texts = [prompts.text(args.words, "text", n) for n in range(args.texts)]
            speed, cost, (mine, their) = await in_turn(
                pair, number + index, len(texts), lambda a, t=texts, r=requests, c=clients: embed(a, t, r, c)
            )
            results.add(metric, speed, cost)
            results.cosine = min(results.cosine, *(cosine(a, b) for a, b in zip(mine, their, strict=True)))
            tell(number, metric, speed, cost)


async def compare_rerank(pair: Sequence[Server], args: argparse.Namespace, results: Results) -> None:
    """All rounds of one query over many documents."""
    for number in range(args.rounds):
        prompts = Prompts(seed=args.seed, scenario=RERANK.key, round=number)
        query = prompts.text(8, "query")
        documents = [prompts.text(4 * args.words, "document", n) for n in range(args.documents)]
        speed, cost, (mine, their) = await in_turn(
            pair, number, len(documents), lambda a, q=query, d=documents: rank(a, q, d)
        )
        results.add(RERANK, speed, cost)
        results.difference = max(results.difference, *(abs(a - b) for a, b in zip(mine, their, strict=True)))
        tell(number, RERANK, speed, cost)


async def in_turn(pair: Sequence[Server], number: int, texts: int, measure: Any) -> tuple[Pair, Pair, list[Any]]:
    """What ``measure`` finds on ours and on theirs: speed, processor milliseconds a text, results.

    Who goes first alternates with ``number``.
    """
    order = (0, 1) if ours_first(number, 0) else (1, 0)
    speeds, costs, found = [0.0, 0.0], [0.0, 0.0], [None, None]
    for which in order:
        before = pair[which].cpu_seconds()
        speeds[which], found[which] = await measure(pair[which].address)
        costs[which] = (pair[which].cpu_seconds() - before) / texts * 1e3
    return Pair(*speeds), Pair(*costs), found


def tell(number: int, metric: Metric, speed: Pair, cost: Pair) -> None:
    """A line a round."""
    print(
        f"round {number + 1}, {metric.title}: ours {speed.ours:.1f}, theirs {speed.theirs:.1f} {metric.unit}; "
        f"processor {cost.ours:.2f} and {cost.theirs:.2f} ms a text",
        flush=True,
    )


async def run(args: argparse.Namespace) -> None:
    """Measure, and print the table."""
    results = Results()
    peer = args.peer or (Path() if args.against else find_or_build())
    for model, flag, compare in (
        (args.model, "--embeddings", compare_embeddings),
        (args.rerank_model, "--rerank", compare_rerank),
    ):
        if model is None:
            continue
        common = Common(
            model=model, parallel=args.parallel, context=args.parallel * 512, threads=args.threads, extra=(flag,)
        )
        pair = [await start(our_spec(common))]
        try:
            theirs = their_spec(common, peer, repack=args.peer is None or not has_amx())
            pair.append(await start(our_spec(common, args.against) if args.against else theirs))
            for server in pair:  # the first request of all finds cold caches
                await warm_up(server.address, flag)
            await compare(pair, args, results)
        finally:
            with trio.CancelScope(shield=True):
                for server in pair:
                    await server.stop()
    measured = (ONE_REQUEST, SHARED_OUT, ONE_BY_ONE, RERANK)
    done = [metric for metric in measured if metric.key in results.figures]
    rows = [(metric, results.figures[metric.key]) for metric in done]
    print("\n" + table([*rows, *((cost_of(metric), results.costs[metric.key]) for metric in done)]))
    if args.model is not None:
        print(f"\nsmallest cosine to their vectors: {results.cosine:.7f} (target: at least 0.9999)")
    if args.rerank_model is not None:
        print(f"largest difference of scores: {results.difference:.2e} (target: at most 1e-3)")


async def warm_up(address: Address, flag: str) -> None:
    """A few texts that nobody measures."""
    if flag == "--rerank":
        await rank(address, "warm", ["up"] * 8)
    else:
        await embed(address, ["warm up"] * 16, CLIENTS, CLIENTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table of ratios."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench embed", description=__doc__)
    parser.add_argument("--model", help="an embedding model; python -m tests.models.minilm FILE writes MiniLM")
    parser.add_argument("--rerank-model", help="a reranker")
    parser.add_argument("--peer", type=Path, help="a llama-server; default: built once, see the peer command")
    parser.add_argument("--against", help="a command that starts another llama-box, to be compared with in its place")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--words", type=int, default=12, help="of a text; a document has four times as many")
    parser.add_argument("--parallel", type=int, default=8, help="slots of each server (theirs aborts with 9)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    if args.model is None and args.rerank_model is None:
        parser.error("--model, --rerank-model or both")
    if args.rounds < 1 or args.texts < CLIENTS:
        parser.error(f"at least one round and {CLIENTS} texts")
    trio.run(run, args)
    return 0
