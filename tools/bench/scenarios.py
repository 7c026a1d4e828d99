"""What is measured: each scenario gives one figure a server and round."""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from tools.bench.load import Address, LoadError, Recording, chat, connection, encode_request, exchange
from tools.bench.prompts import Message, Prompts
from tools.bench.ratios import Comparison, Metric, Target
from tools.bench.servers import Server, start


@attrs.frozen(kw_only=True)
class Sizes:
    """How much of everything, in tokens unless said otherwise."""

    single: int = 128
    streams: int = 8  # concurrent clients
    stream: int = 64
    shared_prompt: int = 1000
    shared: int = 32
    turns: int = 10
    turn: int = 32
    long_prompt: int = 3000
    long_turns: int = 4
    idle: int = 64  # connections
    others: int = 20  # conversations
    visit: int = 400
    long_talk: int = 1500


QUICK = Sizes(
    single=32,
    stream=16,
    shared_prompt=300,
    shared=8,
    turns=3,
    turn=8,
    long_prompt=800,
    long_turns=2,
    idle=16,
    others=4,
    visit=400,
    long_talk=400,
)


@attrs.frozen
class Subject:
    """The server under test and the prompts of this round."""

    server: Server
    prompts: Prompts
    sizes: Sizes

    @property
    def address(self) -> Address:
        """Where the server listens."""
        return self.server.address


@attrs.frozen
class Scenario:
    """A metric and how to get it of one server."""

    metric: Metric
    run: Callable[[Subject], Awaitable[float]]


async def together(address: Address, conversations: Sequence[Sequence[Message]], tokens: int) -> list[Recording]:
    """Stream one completion a conversation, all at once."""
    recordings = [Recording() for _ in conversations]
    async with trio.open_nursery() as nursery:
        for messages, recording in zip(conversations, recordings, strict=True):
            nursery.start_soon(chat, address, messages, tokens, recording)
    return recordings


def span(recordings: Sequence[Recording]) -> float:
    """Seconds from the first request to the last text."""
    return max(r.arrivals[-1] for r in recordings) - min(r.sent for r in recordings)


def throughput(recordings: Sequence[Recording]) -> float:
    """Generated tokens per second over all streams, prompts and waiting included."""
    return sum(r.completion_tokens for r in recordings) / span(recordings)


def longest_gap(recordings: Sequence[Recording], begin: float) -> float:
    """Longest time that any stream went without text, of the gaps that ended after ``begin``. Seconds."""
    gaps = (
        late - early
        for recording in recordings
        for early, late in zip(recording.arrivals, recording.arrivals[1:], strict=False)
        if late > begin
    )
    return max(gaps, default=0.0)


async def single_stream(subject: Subject) -> float:
    """Decode speed of one stream, tokens/s after the first token."""
    recording = await chat(subject.address, subject.prompts.question(0), subject.sizes.single, Recording())
    return recording.decode_rate


async def many_streams(subject: Subject) -> float:
    """Tokens/s over streams with prompts of their own."""
    questions = [subject.prompts.question(client) for client in range(subject.sizes.streams)]
    return throughput(await together(subject.address, questions, subject.sizes.stream))


async def shared_prompt(subject: Subject) -> float:
    """Seconds until all clients of one common system prompt have their answers."""
    sizes = subject.sizes
    questions = [subject.prompts.shared(client, sizes.shared_prompt) for client in range(sizes.streams)]
    return span(await together(subject.address, questions, sizes.shared))


async def conversation(subject: Subject) -> float:
    """Time to first token, summed over the turns of a conversation. Seconds."""
    messages, total = [subject.prompts.opening()], 0.0
    for number in range(subject.sizes.turns):
        messages.append(subject.prompts.turn(number))
        recording = await chat(subject.address, messages, subject.sizes.turn, Recording())
        total += recording.time_to_first
        messages.append({"role": "assistant", "content": recording.text})
    return total


async def about_a_text(subject: Subject) -> float:
    """Time to first token, summed over the later turns of a conversation that begins with a long text. Seconds."""
    sizes, total = subject.sizes, 0.0
    messages = subject.prompts.visitor(0, sizes.long_prompt)
    recording = await chat(subject.address, messages, sizes.turn, Recording())
    for number in range(sizes.long_turns):
        answer = {"role": "assistant", "content": recording.text}
        messages = [*messages, answer, subject.prompts.turn(number)]
        recording = await chat(subject.address, messages, sizes.turn, Recording())
        total += recording.time_to_first
    return total


async def long_arrival(subject: Subject) -> float:
    """Longest gap between tokens of running streams while a long prompt is taken in. Seconds.

    The servers need a slot more than there are streams, else the long prompt waits for one of them to end.
    """
    sizes, streams = subject.sizes, [Recording() for _ in range(subject.sizes.streams)]
    async with trio.open_nursery() as nursery:
        for client, recording in enumerate(streams):
            # More tokens than they get to see: they are cut off once the long prompt has its answer.
            nursery.start_soon(chat, subject.address, subject.prompts.question(client), sizes.long_prompt, recording)
        for recording in streams:
            await recording.reached(2)
        probe = await chat(subject.address, subject.prompts.long(sizes.long_prompt), 2, Recording())
        seen = [len(recording.arrivals) for recording in streams]
        for recording, count in zip(streams, seen, strict=True):
            await recording.reached(count + 1)  # the gap that is still open counts
        nursery.cancel_scope.cancel()
    return longest_gap(streams, probe.sent)


async def returning(subject: Subject) -> float:
    """Time to first token of a conversation's second turn when others came between. Seconds.

    The context is to be smaller than all the conversations together: then it shows who still knows the first one.
    """
    prompts, sizes = subject.prompts, subject.sizes
    messages = prompts.visitor(0, sizes.visit)
    answer = await chat(subject.address, messages, sizes.turn, Recording())
    for number in range(sizes.others):
        await chat(subject.address, prompts.visitor(1 + number, sizes.visit), 2, Recording())
    messages = [*messages, {"role": "assistant", "content": answer.text}, prompts.turn(0)]
    return (await chat(subject.address, messages, 2, Recording())).time_to_first


def decode_throughput(recordings: Sequence[Recording]) -> float:
    """Texts per second of all streams together from the time when each has begun until the first has ended."""
    begin, end = max(r.arrivals[0] for r in recordings), min(r.arrivals[-1] for r in recordings)
    if end <= begin:
        msg = "a stream ended before all had begun"
        raise LoadError(msg)
    return sum(sum(begin < at <= end for at in r.arrivals) for r in recordings) / (end - begin)


async def long_conversations(subject: Subject) -> float:
    """Tokens/s of long conversations that have nothing in common, once all prompts are in.

    The first streams to decode go on until the last one's prompt is in and all have ``stream`` tokens from then on.
    """
    sizes, streams = subject.sizes, [Recording() for _ in range(subject.sizes.streams)]
    async with trio.open_nursery() as nursery:
        for client, recording in enumerate(streams):
            messages = subject.prompts.visitor(client, sizes.long_talk)
            # More tokens than they get to see: they are cut off.
            nursery.start_soon(chat, subject.address, messages, sizes.long_prompt // 2, recording)
        for recording in streams:
            await recording.reached(1)
        seen = [len(recording.arrivals) for recording in streams]
        for recording, count in zip(streams, seen, strict=True):
            await recording.reached(count + sizes.stream)
        nursery.cancel_scope.cancel()
    return decode_throughput(streams)


async def idle_connections(subject: Subject) -> float:
    """Tokens/s over streams while kept-alive connections sit idle."""
    settled = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(subject.sizes.idle):
            await nursery.start(_sit_idle, subject.address, settled)
        rate = await many_streams(subject)
        settled.set()
    return rate


async def _sit_idle(
    address: Address, until: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """One small request, then silence on the open connection."""
    async with connection(address) as stream:
        status, _ = await exchange(stream, encode_request("GET", "/health", address))
        if status != 200:
            msg = f"/health answered {status}"
            raise LoadError(msg)
        task_status.started()
        await until.wait()


async def start_to_ready(subject: Subject) -> float:
    """Seconds from start to ready, of a new process with the same flags."""
    server = await start(subject.server.spec)
    await server.stop()
    return server.ready_seconds


async def memory_above_model(subject: Subject) -> float:
    """Resident memory of a new process that is not the mapped model, after a few streams. MB."""
    server = await start(subject.server.spec)
    try:
        questions = [subject.prompts.question(client) for client in range(subject.sizes.streams)]
        await together(server.address, questions, 8)
        return server.memory().private
    finally:
        await server.stop()


def _scenario(
    key: str, title: str, unit: str, comparison: Comparison, target: Target, run: Callable[[Subject], Awaitable[float]]
) -> Scenario:
    return Scenario(Metric(key=key, title=title, unit=unit, comparison=comparison, target=target), run)


FASTER, SHORTER, ABOVE = Comparison.OURS_OVER_THEIRS, Comparison.THEIRS_OVER_OURS, Comparison.OURS_MINUS_THEIRS

SCENARIOS = (
    _scenario("a", "1 stream, decode", "tokens/s", FASTER, Target(1.0, at_least=True), single_stream),
    _scenario("b", "8 streams, own prompts", "tokens/s", FASTER, Target(1.1, at_least=True), many_streams),
    _scenario("c", "8 clients, common system prompt", "s", SHORTER, Target(3.0, at_least=True), shared_prompt),
    _scenario("d", "conversation, summed TTFT", "s", SHORTER, Target(1.0, at_least=True), conversation),
    _scenario("e", "longest gap, long prompt arrives", "s", FASTER, Target(0.15, at_least=False), long_arrival),
    _scenario("f", "64 idle connections + 8 streams", "tokens/s", FASTER, Target(1.0, at_least=True), idle_connections),
    _scenario("g", "start to ready", "s", FASTER, Target(2.0, at_least=False), start_to_ready),
    _scenario("h", "memory above the model", "MB", ABOVE, Target(150.0, at_least=False), memory_above_model),
    _scenario("i", "returning after 20 others, TTFT", "s", SHORTER, Target(1.0, at_least=True), returning),
    _scenario("j", "8 long conversations, decode", "tokens/s", FASTER, Target(1.0, at_least=True), long_conversations),
    _scenario("k", "talk about a long text, summed TTFT", "s", SHORTER, Target(1.0, at_least=True), about_a_text),
)
