"""A text engine that plays scripts, with a vocabulary of bytes: for tests of everything above the engine."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import trio

from engine.embedding.requests import Embedded, EmbeddingInfo, EmbeddingRequest
from engine.errors import InvalidRequest
from engine.mailboxes import EventStream
from engine.slot_bridge import SlotFile
from engine.text.events import Event, Finished, FinishReason, Timings, Tokens
from engine.text.info import EngineStats, ModelInfo, SlotState
from engine.text.requests import GenerationRequest, GrammarSpec, TokenInfo, TokenProb
from tests.engine.infos import fake_info

BOS, EOS, N_VOCAB = 256, 257, 258


class ByteVocab:
    """Token = byte; two control tokens behind them."""

    n_vocab = N_VOCAB

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [BOS] * add_special + list(text.encode())

    def piece(self, token: int, *, special: bool) -> bytes:
        if not 0 <= token < N_VOCAB:
            raise ValueError(f"no token {token}")
        return bytes([token]) if token < BOS else {BOS: b"<s>", EOS: b"</s>"}[token] * special

    def is_eog(self, token: int) -> bool:
        return token == EOS

    def control_tokens(self) -> tuple[int, ...]:
        return (BOS, EOS)


def make_info(**changes: object) -> ModelInfo:
    """Facts of a small model with two slots of 128 tokens."""
    info = fake_info(
        path="/models/tiny.gguf", description="tiny", architecture="llama", n_vocab=N_VOCAB, n_ctx_train=512,
        n_embd=32, n_ctx=256, n_ctx_slot=128, n_slots=2, bos=BOS, eos=EOS, add_bos=True,
        chat_template="{{ messages }}",
    )  # fmt: skip
    return attrs.evolve(info, **changes)


# What a script may hold: an event to deliver, an error to raise, a gate to wait at.
type Step = Event | trio.Event
type Script = Callable[[GenerationRequest], Sequence[Step]]


def info_of(byte: int, request: GenerationRequest) -> TokenInfo | None:
    """Probability one half for the token, and alternatives that halve on."""
    sampling = request.sampling
    if not sampling.logprobs and sampling.n_probs == 0:
        return None
    top = tuple(TokenProb(token=65 + i, piece=bytes([65 + i]), logprob=-0.5 - i) for i in range(sampling.n_probs))
    return TokenInfo(token=byte, piece=bytes([byte]), logprob=-0.5, top=top)


def _scores(request: GenerationRequest) -> tuple[TokenInfo, ...]:
    """As ``info_of`` has them; control tokens have the text ``<s>``."""
    infos = (attrs.evolve(info_of(token % 256, request), token=token) for token in request.prompt)
    return tuple(info if info.token < 256 else attrs.evolve(info, piece=b"<s>") for info in infos)


def say(
    *texts: str,
    reason: FinishReason = FinishReason.EOS,
    stopping_word: str = "",
    held_back: str = "",
    cache_n: int = 0,
    truncated: bool = False,
) -> Script:
    """A script that generates ``texts``, one Tokens event each, ``held_back`` with the end; 10 ms a byte."""

    def script(request: GenerationRequest) -> Sequence[Step]:
        steps: list[Step] = []
        count = 0

        def parts(text: str) -> dict[str, object]:
            nonlocal count
            count += len(text.encode())
            timings = Timings(
                cache_n=cache_n,
                prompt_n=len(request.prompt) - cache_n,
                prompt_ms=20.0,
                queue_ms=5.0,
                predicted_n=count,
                predicted_ms=10.0 * max(count - 1, 0),
            )
            infos = [info for byte in text.encode() if (info := info_of(byte, request))]
            return {
                "text": text,
                "tokens": tuple(text.encode()),
                "slot": 1,
                "timings": timings,
                "infos": tuple(infos),
            }

        for text in texts:
            steps.append(Tokens(**parts(text)))
        end = parts(held_back)
        steps.append(Finished(**end, reason=reason, stopping_word=stopping_word, truncated=truncated))
        if request.score_prompt:
            steps[0] = attrs.evolve(steps[0], prompt_infos=_scores(request))
        return steps

    return script


def steps(*given: Step) -> Script:
    """A script of just these steps."""
    return lambda request: given


@attrs.frozen
class FakeGrammar:
    spec: GrammarSpec


class FakeGrammars:
    """Compiles everything that does not mention "unsatisfiable"."""

    def prepare(self) -> None:
        pass

    def compile(self, spec: GrammarSpec) -> FakeGrammar:
        if "unsatisfiable" in spec.source:
            raise InvalidRequest("nothing satisfies it")
        return FakeGrammar(spec)


@attrs.define
class FakeEngine:
    """Satisfies engine.bridge.TextEngine. Remembers what it was asked, and which streams were left."""

    script: Script = attrs.field(factory=lambda: say("Hello", " world"))
    info: ModelInfo = attrs.field(factory=make_info)
    vocab: ByteVocab = attrs.field(factory=ByteVocab)
    grammars: FakeGrammars = attrs.field(factory=FakeGrammars)
    measured_rate: float | None = None
    embedding: EmbeddingInfo | None = None
    embed_gate: trio.Event | None = None  # what computing vectors waits for
    embedded: list[EmbeddingRequest] = attrs.field(factory=list)
    left_early: list[str] = attrs.field(factory=list)  # requests for vectors that were cancelled
    vector_of: Callable[[Sequence[int]], Sequence[float]] = lambda tokens: (float(len(tokens)), float(sum(tokens)))
    refuse: Exception | None = None  # raised on entering
    slot_states: tuple[SlotState, ...] = ()
    slot_answer: SlotFile | Exception = attrs.field(factory=lambda: SlotFile(12, 3456))
    slot_calls: list[tuple[Any, ...]] = attrs.field(factory=list)
    totals: EngineStats = attrs.field(factory=EngineStats)
    opened: list[GenerationRequest] = attrs.field(factory=list)
    closed: list[str] = attrs.field(factory=list)
    opened_event: trio.Event = attrs.field(factory=trio.Event)
    closed_event: trio.Event = attrs.field(factory=trio.Event)

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest, arrivals: trio.lowlevel.ParkingLot | None = None
    ) -> AsyncIterator[EventStream]:
        if self.refuse is not None:
            raise self.refuse
        self.opened.append(request)
        self.opened_event.set()
        stream = EventStream(64, lambda: None, arrivals)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(play, self.script(request), stream)
                yield stream
                nursery.cancel_scope.cancel()
        finally:
            self.closed.append(request.id)
            self.closed_event.set()

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        if self.refuse is not None:
            raise self.refuse
        self.embedded.append(request)
        self.opened_event.set()
        try:
            await trio.lowlevel.checkpoint()
            if self.embed_gate is not None:
                await self.embed_gate.wait()
        except trio.Cancelled:
            self.left_early.append(request.id)
            self.closed_event.set()
            raise
        return Embedded(vectors=tuple(np.array(self.vector_of(text), np.float32) for text in request.texts))

    def slots(self) -> tuple[SlotState, ...]:
        return self.slot_states

    async def save_slot(self, slot: int, path: Path) -> SlotFile:
        return await self._act("save", slot, path)

    async def restore_slot(self, slot: int, path: Path) -> SlotFile:
        return await self._act("restore", slot, path)

    async def erase_slot(self, slot: int) -> int:
        return (await self._act("erase", slot)).n_tokens

    async def _act(self, *call: Any) -> SlotFile:
        await trio.lowlevel.checkpoint()
        self.slot_calls.append(call)
        if isinstance(self.slot_answer, Exception):
            raise self.slot_answer
        return self.slot_answer

    def stats(self) -> EngineStats:
        return self.totals


async def play(script: Sequence[Step], stream: EventStream) -> None:
    """Put the events into the stream; a step that is a trio.Event is waited for."""
    for step in script:
        await trio.lowlevel.checkpoint()
        if isinstance(step, trio.Event):
            await step.wait()
        else:
            stream.put(step)
