"""Has a change made the server slower? An answer within three minutes, from ratios only.

Ours against llama-server, where one is built; ours against ours (8 streams against 1, drafts against none, …); and
what runs without a model: the scheduler against a fixed piece of Python that tells how fast this machine is right now,
HTTP against bare sockets, in turns. Each ratio has an expected value and a tolerance in ``quick.toml``; what falls
below is named, and the exit status is 1. Status 2: something could not be measured, for want of time too.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from llamabox.models import demo
from tools.bench import http_path, structured
from tools.bench.compare import FAILURES, leaves, say
from tools.bench.expected import STORED, judge, read
from tools.bench.load import LoadError, Recording, chat, tokens_per_word, wait_idle
from tools.bench.peer import find
from tools.bench.prompts import WORDS, Prompts
from tools.bench.ratios import ours_first
from tools.bench.scenarios import Sizes, Subject, conversation, many_streams, shared_prompt, single_stream
from tools.bench.servers import Common, Server, ServerSpec, has_amx, our_spec, start, their_spec
from tools.bench.simulation.growth import decode_steps
from tools.bench.speculation import copying
from tools.bench.speculation import rate as copy_rate

SIZES: Final = Sizes(single=32, stream=16, shared_prompt=120, shared=8, turns=3, turn=8)
FREE_TOKENS: Final = 40
COPY_TOKENS: Final = 96
LIMIT: Final = 170.0  # seconds for everything
LOOKUP: Final = ("--lookup-ngram-min", "2")
STREAMS: Final = 64  # of the scheduler's step


def _one_item() -> dict[str, Any]:
    """The constraint of the benchmark of JSON, with one short item in place of four: it must be read to its end."""
    fields = copy.deepcopy(structured.CONSTRAINED)
    items = fields["response_format"]["json_schema"]["schema"]["properties"]["items"]
    items |= {"minItems": 1, "maxItems": 1}
    items["items"]["properties"]["tags"]["maxItems"] = 1
    items["items"]["properties"]["product"]["maxLength"] = 12
    return fields


ONE_ITEM: Final = _one_item()

type Step = Callable[["Quick"], Awaitable[None]]


@attrs.define
class Quick:
    """A run. ``figures`` are the ratios by their key in ``quick.toml``."""

    model: Path
    peer: Path | None
    threads: int
    seed: int
    figures: dict[str, float] = attrs.field(factory=dict)
    failures: dict[str, str] = attrs.field(factory=dict)
    servers: dict[str, Server] = attrs.field(factory=dict)
    words: float = 1.0
    _free: float = 0.0  # tokens/s of 8 streams of free text
    _n_measured: int = 0

    async def run(self) -> None:
        """All steps, as far as time allows; a step that fails leaves its reason, and the others go on."""
        self.failures = {key: f"the time was over ({LIMIT:g} s)" for _, keys in STEPS for key in keys}
        try:
            with trio.move_on_after(LIMIT):
                for step, keys in STEPS:
                    await self._try(step, [key for key in keys if self.peer or not key.startswith("peer_")])
        finally:
            with trio.CancelScope(shield=True):
                for server in self.servers.values():
                    await server.stop()

    async def _try(self, step: Step, keys: Sequence[str]) -> None:
        began = time.monotonic()
        try:
            await step(self)
        except* FAILURES as group:
            reason = "; ".join(str(error) or type(error).__name__ for error in leaves(group))
            say(reason)
            self.failures |= dict.fromkeys(keys, reason)
        took = time.monotonic() - began
        say(f"{', '.join(f'{key} {self.figures[key]:.3f}' for key in keys if key in self.figures)} in {took:.1f} s")

    # --- what runs without a model ---

    async def python_parts(self) -> None:
        """Scheduler by what this machine's Python takes for a fixed amount of work, HTTP by what bare sockets take."""
        ratios = [1e6 * fixed_work() / statistics.median(decode_steps(STREAMS, 51)) for _ in range(7)]
        self.figures["own_scheduler"] = statistics.median(ratios)
        self.figures["own_http"] = statistics.median(await http_path.beside_bare(5, 16, 200))

    # --- servers ---

    async def start(self) -> None:
        """Both servers, warm."""
        common = Common(model=str(self.model), context=9 * 1024, threads=self.threads)
        await self._server("ours", our_spec(common))
        if self.peer is not None:
            await self._server("theirs", their_spec(common, self.peer, repack=self.peer == find() or not has_amx()))
        self.words = await tokens_per_word(self.servers["ours"].address, WORDS)
        for name in self.servers:
            warm = self._subject(name, "warm-up")
            await chat(warm.address, warm.prompts.question(0), 4, Recording())
            await chat(warm.address, warm.prompts.question(1), 4, Recording(), ONE_ITEM)

    async def decode(self) -> None:
        """1 stream, three times in turns."""
        found = [await self._both("decode", single_stream, round_) for round_ in range(3)]
        self._compare("peer_decode", found)

    async def streams(self) -> None:
        """8 streams with prompts of their own."""
        self._compare("peer_streams", [await self._both("streams", many_streams)])

    async def batch(self) -> None:
        """What batching gives: 8 streams against 1, prompts left out."""
        ours = self._subject("ours", "batch")
        one = await structured.rate(ours.address, ours.prompts, 1, None, SIZES.single)
        self._free = await structured.rate(ours.address, self._subject("ours", "eight").prompts, 8, None, FREE_TOKENS)
        self.figures["own_batch"] = self._free / one

    async def json(self) -> None:
        """8 streams of JSON by a schema."""
        rates: list[float] = []
        for name in self.servers:
            subject = self._subject(name, "json")
            rates.append(await structured.rate(subject.address, subject.prompts, 8, ONE_ITEM, structured.MAX_TOKENS))
        self.figures["own_json"] = rates[0] / self._free
        if len(rates) == 2:
            self.figures["peer_json"] = rates[0] / rates[1]

    async def shared(self) -> None:
        """8 clients of one system prompt, and one client alone."""
        ours, theirs = await self._both("shared", shared_prompt)
        ours = min(ours, await shared_prompt(self._subject("ours", "shared", 1)))  # a few seconds, easily disturbed
        alone = self._subject("ours", "alone")
        recording = await chat(alone.address, alone.prompts.shared(0, SIZES.shared_prompt), SIZES.shared, Recording())
        self.figures["own_shared"] = 8 * (recording.arrivals[-1] - recording.sent) / ours
        if theirs is not None:
            self.figures["peer_shared"] = theirs / ours

    async def first_token(self) -> None:
        """A conversation's time to first token; and what it saves that a prompt is known."""
        ours, theirs = await self._both("talk", conversation)
        if theirs is not None:
            self.figures["peer_ttft"] = theirs / ours
        known = self._subject("ours", "known")
        messages = known.prompts.visitor(0, 200)
        cold = await chat(known.address, messages, 4, Recording())
        answer = {"role": "assistant", "content": cold.text}
        warm = await chat(known.address, [*messages, answer, known.prompts.turn(0)], 4, Recording())
        self.figures["own_ttft"] = cold.time_to_first / warm.time_to_first

    async def lookup(self) -> None:
        """Text that is copied, with drafts and without."""
        await self._server("drafts", our_spec(self._common(), None, LOOKUP))
        rates = {
            name: await copy_rate(self.servers[name].address, copying(self.seed), 1, COPY_TOKENS)
            for name in ("ours", "drafts")
        }
        self.figures["own_lookup"] = rates["drafts"] / rates["ours"]

    # --- inside ---

    def _common(self) -> Common:
        return Common(model=str(self.model), parallel=2, context=2 * 1024, threads=self.threads)

    async def _server(self, name: str, spec: ServerSpec) -> None:
        self.servers[name] = await start(spec, 60.0)

    def _subject(self, name: str, scenario: str, round_: int = 0) -> Subject:
        if name not in self.servers:
            raise LoadError(f"{name}: the server did not start")
        prompts = Prompts(seed=self.seed, scenario=scenario, round=round_, tokens_per_word=self.words)
        return Subject(self.servers[name], prompts, SIZES)

    async def _both(
        self, scenario: str, run: Callable[[Subject], Awaitable[float]], round_: int = 0
    ) -> tuple[float, float | None]:
        """Our figure and theirs, None without a peer; who goes first alternates."""
        names = ["ours", "theirs"] if "theirs" in self.servers else ["ours"]
        self._n_measured += 1
        found: dict[str, float] = {}
        for name in names if ours_first(round_, self._n_measured) else reversed(names):
            subject = self._subject(name, scenario, round_)
            await wait_idle(subject.address)
            found[name] = await run(subject)
        return found["ours"], found.get("theirs")

    def _compare(self, key: str, found: Sequence[tuple[float, float | None]]) -> None:
        """The median of ours / theirs."""
        ratios = [ours / theirs for ours, theirs in found if theirs is not None]
        if ratios:
            self.figures[key] = statistics.median(ratios)


# Every step with the figures that it gives.
STEPS: Final[Sequence[tuple[Step, Sequence[str]]]] = (
    (Quick.python_parts, ("own_scheduler", "own_http")),
    (Quick.start, ()),
    (Quick.decode, ("peer_decode",)),
    (Quick.streams, ("peer_streams",)),
    (Quick.batch, ("own_batch",)),
    (Quick.json, ("own_json", "peer_json")),
    (Quick.shared, ("own_shared", "peer_shared")),
    (Quick.first_token, ("own_ttft", "peer_ttft")),
    (Quick.lookup, ("own_lookup",)),
)


def fixed_work() -> float:
    """Processor seconds of some Python like ours: objects, dictionaries, calls. The best of a few."""

    def once() -> float:
        began = time.process_time()
        books: dict[int, list[int]] = {}
        for index in range(20_000):
            books.setdefault(index % 64, []).append(index)
        sum(len(row) for row in books.values())
        return time.process_time() - began

    return min(once() for _ in range(7))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and what fell out of its range. The exit status is the verdict's."""
    parser = argparse.ArgumentParser(prog="tools/bench/quick", description=__doc__)
    parser.add_argument("--model", type=Path, help="GGUF file; default: the demo model, for which the figures are")
    parser.add_argument("--peer", type=Path, help="a llama-server; default: the one that the peer command has built")
    parser.add_argument("--no-peer", action="store_true", help="ours alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the prompts; default: another one each time"
    )
    parser.add_argument("--expected", type=Path, default=STORED, help="default: tools/bench/quick.toml")
    args = parser.parse_args(arguments)
    peer = None if args.no_peer else args.peer or find()
    if peer is None:
        say("no llama-server: ours alone (python -m tools.bench peer builds one)")
    began = time.monotonic()
    quick = Quick(args.model or demo.prepare(), peer, args.threads, args.seed)
    trio.run(quick.run)
    verdict = judge(read(args.expected), quick.figures, quick.failures, peer=peer is not None)
    print(verdict.table)
    for line in verdict.better:
        print(f"better than stored: {line}")
    for line in (*verdict.regressions, *verdict.missing):
        print(f"out of range: {line}", file=sys.stderr)
    print(f"quick: {verdict.word}, {time.monotonic() - began:.0f} s")
    return verdict.status
