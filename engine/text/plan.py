"""What the scheduler is given and what it decides: the limits, a step's plan, and the batch while it is filled."""

from collections.abc import Buffer, Iterable
from typing import Protocol

import attrs

from engine.text.adapters import NO_ADAPTERS, AdapterSet
from engine.text.backend import Run
from engine.text.media import MediaSpan
from engine.text.prefix_node import Node
from engine.text.sequence import Sequence
from engine.text.tokens import Tokens


class SchedulerMemory(Protocol):
    """The KV cache operations that the scheduler orders (see ``engine.text.backend.Memory``)."""

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None: ...

    def remove(self, seq: int, p0: int, p1: int | None) -> None: ...

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None: ...

    def span(self, seq: int) -> tuple[int, int]: ...

    def exchange(self, a: int, b: int) -> bool: ...


class HostPrompts(Protocol):
    """Prompts outside the KV cache (see ``engine.text.host_memory``). ``key``: what they were computed with."""

    def leaving(self, node: Node, seq: int, first: int) -> None: ...

    def reach(self, tokens: Tokens, held: int, key: AdapterSet) -> int: ...

    def erase(self, tokens: Tokens, key: AdapterSet) -> None: ...


class KeptStates(Protocol):
    """Whole states outside the KV cache (see ``engine.text.checkpoints``). ``key``: what they were computed with."""

    least: int

    def lengths(self, tokens: Tokens, held: int, key: AdapterSet, others: Iterable[Tokens]) -> list[int]: ...

    def save(self, seq: int, tokens: Tokens, key: AdapterSet, *, is_left: bool = False) -> None: ...

    def reach(self, tokens: Tokens, held: int, key: AdapterSet) -> int: ...

    def find(self, tokens: Tokens, key: AdapterSet) -> tuple[Tokens, Buffer] | None: ...

    def put(self, tokens: Tokens, key: AdapterSet, state: Buffer) -> bool: ...

    def erase(self, tokens: Tokens, key: AdapterSet) -> int: ...


@attrs.frozen(kw_only=True)
class Limits:
    """What the model and the options allow. Tokens, unless said otherwise."""

    n_slots: int
    n_cells: int  # cells of the KV cache
    n_ctx_slot: int  # most tokens of one sequence in the KV cache
    n_batch: int
    n_seqs: int  # ids of the KV cache
    n_vocab: int
    kv_unified: bool = True  # all ids share the cells; False: each has a stream of its own, for n_ctx_slot tokens
    can_reuse: bool = True  # prefixes may be shared and kept
    can_cut: bool = True  # the end of what a sequence has computed can be taken back: not from a recurrent state
    can_shift: bool = True
    continuous_batching: bool = True
    tile: int = 1  # mixed batches are filled to a multiple of this many tokens
    deep_tile: int = 1  # and of this many where the prompt is long already (engine.text.scheduler.DEEP)
    n_keep_always: int = 0  # the BOS token that a shift must not drop
    n_adapters: int = 0  # ids of adapters are 0 … n_adapters - 1
    reuse_chunk: int = 0  # smallest run of an older prompt's tokens to reuse at another position; 0: off
    slot_similarity: float = 0.0  # share of what a slot remembers that must match for it to be preferred; 0: off


@attrs.frozen
class PlannedRun:
    sequence: Sequence
    run: Run


@attrs.frozen
class PlannedMedia:
    """The next medium of a sequence."""

    sequence: Sequence
    span: MediaSpan


@attrs.frozen
class StepPlan:
    """The batch, decodes before prefills where ids share the cells, else by stream.

    ``wake_at``: when the next paced sequence is due, if nothing runs now.

    Runs of one token are kept from step to step: the token that follows changes them.

    ``n_plain``: the first so many runs are one token each of who generates (drafts do not count), nothing of a prompt.

    ``adapters``: what the whole batch is to be computed with. A step with ``media`` computes that and has no batch.
    """

    runs: tuple[PlannedRun, ...] = ()
    wake_at: float | None = None
    preempted: tuple[Sequence, ...] = ()
    adapters: AdapterSet = NO_ADAPTERS
    media: PlannedMedia | None = None
    n_plain: int = 0

    @property
    def n_decode(self) -> int:
        return sum([len(planned.run.tokens) - planned.run.n_drafted == 1 for planned in self.runs])

    @property
    def n_prefill(self) -> int:
        return sum([len(planned.run.tokens) - planned.run.n_drafted for planned in self.runs]) - self.n_decode

    @property
    def n_scored(self) -> int:
        """Tokens of prompts whose probabilities are asked for."""
        return sum([len(planned.run.tokens) for planned in self.runs[self.n_plain :] if planned.run.scored])

    @property
    def n_drafted(self) -> int:
        return sum([planned.run.n_drafted for planned in self.runs])


@attrs.define
class Batch:
    """A batch in the making; ``room``: free cells that no run of it has claimed."""

    room: int = 0
    n_plain: int = 0  # see StepPlan
    runs: list[PlannedRun] = attrs.field(factory=list)
    preempted: list[Sequence] = attrs.field(factory=list)

    def add(self, planned: PlannedRun, n_tokens: int) -> None:
        self.runs.append(planned)
        self.room -= n_tokens
