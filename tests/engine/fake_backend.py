"""A backend without a model: the next token is a function of the tokens that the KV cache really holds.

Wrong books therefore give wrong text. Every misuse that would corrupt a real KV cache is an AssertionError here.
"""

import pickle
import zlib
from collections.abc import Buffer, Callable, Sequence

import attrs

from engine.errors import InvalidRequest, NativeError
from engine.text.adapters import NO_ADAPTERS, AdapterSet
from engine.text.backend import DecodeStatus, Run
from engine.text.info import ModelInfo
from engine.text.media import MediaChunk, MediaReader
from engine.text.requests import SamplingParams, TokenInfo
from engine.text.snapshot import HASH_SIZE, Identity
from tests.engine.fake_grammar import FakeGrammars
from tests.engine.infos import fake_info

EOG = 256


def next_token(history: Sequence[int], adapters: AdapterSet = NO_ADAPTERS) -> int:
    """The fake model: a letter that depends on every token before it, and on what it is computed with."""
    seed = zlib.crc32(repr(adapters).encode()) if adapters else 0
    return 97 + zlib.crc32(b"".join(t.to_bytes(2) if t >= 0 else str(t).encode() for t in history), seed) % 26


def continuation(prompt: Sequence[int], count: int, adapters: AdapterSet = NO_ADAPTERS) -> list[int]:
    """What the fake model generates for a prompt when it runs alone."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens, adapters))
    return tokens[len(prompt) :]


class FakeVocab:
    """One token a byte; ``pieces`` gives single tokens another text, ``hidden`` that of a control token."""

    n_vocab = 257

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.hidden: dict[int, bytes] = {}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode())

    def piece(self, token: int, *, special: bool) -> bytes:
        if token == EOG:
            return b"<end>" if special else b""
        if token in self.hidden:
            return self.hidden[token] if special else b""
        return self.pieces.get(token, bytes([token]))

    def is_eog(self, token: int) -> bool:
        return token == EOG

    def control_tokens(self) -> tuple[int, ...]:
        return (*self.hidden, EOG)


@attrs.define(eq=False)
class Cell:
    token: int
    position: int
    seqs: set[int]
    adapters: AdapterSet = NO_ADAPTERS
    more: int = 0  # further cells of the same medium


class FakeKv:
    """Cells as llama.cpp has them in unified mode."""

    def __init__(self, n_cells: int, *, cuts: bool = True) -> None:
        """Without ``cuts`` as with a recurrent state: only all of it can be taken away, and none of it shared."""
        self.n_cells = n_cells
        self.cuts = cuts
        self.cells: list[Cell] = []

    @property
    def used(self) -> int:
        return len(self.cells) + sum(cell.more for cell in self.cells)

    def room(self, seq: int) -> int:
        """Free cells for a sequence."""
        return self.n_cells - self.used

    def of(self, seq: int, p0: int = 0, p1: int | None = None) -> list[Cell]:
        return [c for c in self.cells if seq in c.seqs and p0 <= c.position and (p1 is None or c.position < p1)]

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        assert self.cuts, "a state is shared that goes on differently"
        held = {c.position for c in self.of(dst)}
        moved = self.of(src, p0, p1)
        assert [c.position for c in sorted(moved, key=lambda c: c.position)] == list(range(p0, p1)), "source has holes"
        for cell in moved:
            assert cell.position not in held, "the target holds that position already"
            cell.seqs.add(dst)

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        if not self.cuts and (p1 is not None or 0 < p0 <= self.span(seq)[1]):
            raise NativeError("the state cannot be cut")
        for cell in self.of(seq, p0, p1):
            cell.seqs.discard(seq)
        self.cells = [c for c in self.cells if c.seqs]

    def spoil(self) -> None:
        """A decode was aborted: states that cannot be cut are half computed, or half moved."""
        for cell in [] if self.cuts else self.cells:
            cell.token ^= 1

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        for cell in self.of(seq, p0, p1):
            assert cell.seqs == {seq}, "a shared cell would move for others too"
            cell.position += delta

    def span(self, seq: int) -> tuple[int, int]:
        positions = [c.position for c in self.of(seq)]
        if not positions:
            return (-1, -1)
        return (min(positions) if self.cuts else max(positions), max(positions))

    def exchange(self, a: int, b: int) -> bool:
        raise AssertionError("a cache for all sequences has no streams")

    def stream(self, seq: int) -> int:
        """The stream that the sequence is computed in."""
        return 0

    def tokens(self, seq: int) -> list[int]:
        cells = sorted(self.of(seq), key=lambda c: c.position)
        assert [c.position for c in cells] == list(range(len(cells))), f"sequence {seq} has holes or doubles"
        return [c.token for c in cells]


class FakeStreams(FakeKv):
    """Cells as llama.cpp has them where each sequence has a stream: ``n_cells`` of them each."""

    def __init__(self, n_cells: int) -> None:
        super().__init__(n_cells)
        self._streams: dict[int, int] = {}  # of those that have not that of their own number
        self.n_exchanges = 0

    def stream(self, seq: int) -> int:
        return self._streams.get(seq, seq)

    def exchange(self, a: int, b: int) -> bool:
        assert a != b, "a sequence changes streams with itself"
        self._streams |= {a: self.stream(b), b: self.stream(a)}
        self.n_exchanges += 1
        return True

    def room(self, seq: int) -> int:
        return self.n_cells - sum(1 + cell.more for cell in self.of(seq))

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        assert src != dst, "a stream is copied to itself"
        assert p0 == 0, "a part is copied between streams: the library would end the process"
        assert not self.of(dst), "what the target holds would be lost"
        moved = sorted(self.of(src, p0, p1), key=lambda c: c.position)
        assert [c.position for c in moved] == list(range(p0, p1)), "source has holes"
        self.cells += [Cell(c.token, c.position, {dst}, c.adapters, c.more) for c in moved]


def bits_of(mask: Buffer) -> list[int]:
    """The tokens that a mask allows."""
    data = memoryview(mask).cast("B")
    return [8 * at + bit for at, byte in enumerate(data) for bit in range(8) if byte >> bit & 1]


class FakeSampler:
    def __init__(self, backend: "FakeBackend", params: SamplingParams) -> None:
        self._backend = backend
        self.params = params
        self.closed = False
        self.seen: list[int] = []

    def accept(self, tokens: Sequence[int]) -> None:
        self.seen.extend(tokens)

    def sample(self, index: int, mask: Buffer | None = None) -> tuple[int, TokenInfo | None]:
        """The model's own choice, else the allowed token that follows on it, counted in a circle."""
        assert not self.closed, "a closed sampler is used"
        token = self._backend.choose(self._backend.histories[index])
        if mask is not None:
            allowed = bits_of(mask)
            if not allowed:
                raise InvalidRequest("nothing is allowed")
            token = min(allowed, key=lambda t: (t - token) % FakeVocab.n_vocab)
        self.seen.append(token)
        info = TokenInfo(token=token, piece=bytes([token % 256]), logprob=0.0) if self.params.logprobs else None
        return token, info

    def describe(self, index: int, token: int) -> TokenInfo:
        """The likelier the nearer it is to the model's own choice."""
        assert not self.closed, "a closed sampler is used"
        away = (self._backend.choose(self._backend.histories[index]) - token) % FakeVocab.n_vocab
        return TokenInfo(token=token, piece=bytes([token % 256]), logprob=-float(away))

    def close(self) -> None:
        self.closed = True


class FakeBackend:
    """Satisfies engine.text.backend.Backend. ``script`` may answer for a decode: a status, an error, or None."""

    def __init__(
        self,
        *,
        n_cells: int = 256,
        n_ctx_slot: int | None = None,
        n_slots: int = 4,
        n_seqs: int = 16,
        n_batch: int = 64,
        can_shift: bool = True,
        n_adapters: int = 3,
        kv_unified: bool = True,
        cuts: bool = True,
    ) -> None:
        """Without ``kv_unified`` there is a stream of ``n_ctx_slot`` cells for each slot, and no other id.

        ``cuts``: see ``FakeKv``.
        """
        n_ctx_slot = n_ctx_slot or n_cells // n_slots
        assert cuts or (kv_unified and not can_shift), "what cannot be cut cannot be moved"
        if kv_unified:
            self.kv = FakeKv(n_cells, cuts=cuts)
        else:
            self.kv, n_seqs, n_cells = FakeStreams(n_ctx_slot), n_slots, n_slots * n_ctx_slot
        self.vocab = FakeVocab()
        self.grammars = FakeGrammars(self.vocab)
        self.n_seqs = n_seqs
        self.media: MediaReader | None = None
        self.media_script: Callable[[MediaChunk], DecodeStatus | Exception | None] = lambda chunk: None
        self.n_encoded = 0
        info = model_info(n_cells, n_ctx_slot, n_slots, n_batch, can_shift=can_shift)
        loras = tuple(f"lora-{i}.gguf" for i in range(n_adapters))
        self.info = attrs.evolve(info, loras=loras, kv_unified=kv_unified, is_recurrent=not cuts)
        self.identity = Identity(
            model=b"m" * HASH_SIZE, adapters=tuple(bytes([65 + i]) * HASH_SIZE for i in range(n_adapters))
        )
        self.adapters: AdapterSet = NO_ADAPTERS
        self.n_switches = 0
        self.histories: dict[int, list[int]] = {}
        self.samplers: list[FakeSampler] = []
        self.choose: Callable[[Sequence[int]], int] = lambda history: next_token(history, self.adapters)
        self.script: Callable[[Sequence[Run]], DecodeStatus | Exception | None] = lambda runs: None
        self.before_decode: Callable[[Sequence[Run]], None] = lambda runs: None
        self.aborting = False
        self.abort_after: int | None = None  # tokens that an aborted decode has computed; None: half of the batch
        self.fail_after = 0  # tokens that a failing decode has computed
        self.closed = False
        self.refuses_state = False
        self.n_decodes = 0
        self.computed = 0
        self.copy = self.kv.copy
        self.remove = self.kv.remove
        self.shift = self.kv.shift
        self.span = self.kv.span
        self.exchange = self.kv.exchange

    def set_adapters(self, adapters: AdapterSet) -> None:
        assert all(0 <= adapter < len(self.info.loras) and scale for adapter, scale in adapters)
        self.adapters = adapters
        self.n_switches += 1

    def save_state(self, seq: int) -> bytearray:
        cells = self.kv.of(seq)
        assert cells, "an empty sequence is saved"
        return bytearray(pickle.dumps([(cell.token, cell.position, cell.adapters, cell.more) for cell in cells]))

    def restore_state(self, seq: int, state: Buffer) -> None:
        assert not self.kv.of(seq), "only an empty sequence can be filled"
        cells = [Cell(token, position, {seq}, *rest) for token, position, *rest in pickle.loads(state)]
        if sum(1 + cell.more for cell in cells) > self.kv.room(seq) or self.refuses_state:
            raise NativeError("no room")
        self.kv.cells += cells

    def decode(self, runs: Sequence[Run]) -> DecodeStatus:
        self.n_decodes += 1
        self.before_decode(runs)
        answer = DecodeStatus.ABORTED if self.aborting else self.script(runs)
        if isinstance(answer, Exception):
            self._compute(_first(runs, self.fail_after))
            raise answer
        if answer is not None and answer is not DecodeStatus.OK:
            if answer is DecodeStatus.ABORTED:
                total = sum(len(run.tokens) for run in runs)
                self._compute(_first(runs, total // 2 if self.abort_after is None else self.abort_after))
                self.kv.spoil()
            return answer
        total = sum(len(run.tokens) for run in runs)
        assert 0 < total <= self.info.n_batch, "a batch of the wrong size"
        streams = [self.kv.stream(run.seq) for run in runs]
        assert streams == sorted(streams), "streams out of order are computed one after the other"
        self._compute(runs)
        return DecodeStatus.OK

    def _compute(self, runs: Sequence[Run]) -> None:
        index = -1
        self.histories = {}
        for run in runs:
            assert 0 <= run.seq < self.n_seqs, "an id that does not exist"
            assert self.kv.span(run.seq)[1] + 1 == run.start, "positions must follow on"
            held = {cell.adapters for cell in self.kv.of(run.seq)}
            assert held <= {self.adapters}, "cells of one sequence computed with different adapters"
            for offset, token in enumerate(run.tokens):
                self.kv.cells.append(Cell(token, run.start + offset, {run.seq}, self.adapters))
            assert self.kv.room(run.seq) >= 0, "more cells than there are"
            self.computed += len(run.tokens)
            index += len(run.tokens)
            if run.logits or run.scored:
                history = self.kv.tokens(run.seq)
                for back in range(len(run.tokens) if run.scored else run.n_drafted + 1):
                    self.histories[index - back] = history[: len(history) - back]

    def decode_media(self, seq: int, start: int, chunk: MediaChunk) -> DecodeStatus:
        self.n_decodes += 1
        self.n_encoded += 1
        self.before_decode([Run(seq, start, chunk.tokens(), False)])
        answer = DecodeStatus.ABORTED if self.aborting else self.media_script(chunk)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            if answer is DecodeStatus.ABORTED:
                self.kv.spoil()
            if not self.kv.cuts:
                self.kv.remove(seq, 0, None)
            return answer
        assert self.kv.span(seq)[1] + 1 == start, "positions must follow on"
        for offset, token in enumerate(chunk.tokens()):
            more = chunk.n_cells - chunk.n_pos if offset == 0 else 0
            self.kv.cells.append(Cell(token, start + offset, {seq}, self.adapters, more))
        assert self.kv.room(seq) >= 0, "more cells than there are"
        self.computed += chunk.n_cells
        return DecodeStatus.OK

    def create_sampler(self, params: SamplingParams) -> FakeSampler:
        sampler = FakeSampler(self, params)
        self.samplers.append(sampler)
        return sampler

    def say(self, n_prompt: int, pieces: Sequence[bytes], *, end: bool = True) -> None:
        """Let each generation after a prompt of ``n_prompt`` tokens be these pieces, one token each."""
        assert len(pieces) < 97, "the tokens must not meet those of prompts"
        self.vocab.pieces = dict(enumerate(pieces))
        script = [*range(len(pieces)), *([EOG] if end else [])]
        self.choose = lambda history: script[len(history) - n_prompt]

    def abort(self) -> None:
        self.aborting = True

    def clear_abort(self) -> None:
        self.aborting = False

    def close(self) -> None:
        self.closed = True


def _first(runs: Sequence[Run], count: int) -> list[Run]:
    """What the first ``count`` tokens of a batch are: an abort may cut a run in two."""
    first: list[Run] = []
    for run in runs:
        part = run.tokens[:count]
        if part:
            whole = len(part) == len(run.tokens)
            first.append(Run(run.seq, run.start, part, run.logits and whole, run.n_drafted if whole else 0))
        count -= len(part)
    return first


def model_info(n_ctx: int, n_ctx_slot: int, n_slots: int, n_batch: int, *, can_shift: bool = True) -> ModelInfo:
    return fake_info(
        n_ctx=n_ctx, n_ctx_slot=n_ctx_slot, n_slots=n_slots, n_batch=n_batch, n_ubatch=n_batch, eos=EOG,
        can_shift=can_shift,
    )  # fmt: skip


__all__ = ["EOG", "FakeBackend", "FakeKv", "FakeStreams", "NativeError", "continuation", "model_info", "next_token"]
