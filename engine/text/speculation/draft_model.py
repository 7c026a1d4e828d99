"""Drafts from a smaller model with the same vocabulary, all sequences in one batch."""

from collections.abc import Mapping
from time import monotonic
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelLoadError, NativeError
from engine.native.context import Context
from engine.native.context_params import most_sequences
from engine.native.metadata_check import check_metadata
from engine.native.model import Model
from engine.native.options import ContextOptions
from engine.native.vocab import LlamaVocab
from engine.text.backend import Backend
from engine.text.llama_backend import LlamaBackend
from engine.text.sequence import Sequence
from engine.text.speculation.drafter import Draft
from engine.text.speculation.options import SpeculationOptions
from engine.text.step_cost import StepCost
from engine.text.tokens import Tokens, common_prefix, row

# As llama.cpp allows: vocabularies of one family are padded to different sizes.
_MOST_SIZE_DIFFERENCE: Final = 128
_LEAST_CATCH_UP: Final = 16  # tokens of prompts that a step computes with the draft model while others wait
_ALPHA: Final = 0.2


@attrs.define
class _Place:
    """Where a sequence is in the draft model's memory: ``tokens`` are computed there."""

    seq: int
    tokens: Tokens


class DraftModel:
    """Satisfies ``engine.text.speculation.drafter.Drafter``; owns the model.

    ``least_probability``: a draft ends where the draft model's best token is less likely than this. It catches up with
    a prompt in pieces that take about half of ``step_target`` seconds a step, and drafts from then on.
    """

    def __init__(
        self, model: Model, context: Context, n_vocab: int, least_probability: float, step_target: float
    ) -> None:
        self._model = model
        self._context = context
        self._batch = context.new_batch()
        self._n_vocab = min(n_vocab, model.vocab.n_vocab)
        self.least_probability = least_probability
        self._target = step_target / 2
        self._cost = StepCost()
        self._price: float | None = None
        self._places: dict[Sequence, _Place] = {}  # the one used longest ago first
        self._free = list(range(context.n_seqs))

    @property
    def price(self) -> float | None:
        """See ``Drafter.price``."""
        return self._price

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, Draft]:
        """See ``Drafter.propose``. A draft model that fails is given up for the sequences at hand, with no draft."""
        drafts: dict[Sequence, list[tuple[int, float]]] = {}
        try:
            heads = self._catch_up([sequence for sequence in wanted if not sequence.request.media])
            while heads:
                for sequence, (token, probability) in list(heads.items()):
                    drafted = drafts.setdefault(sequence, [])
                    if probability < self.least_probability:
                        del heads[sequence]
                        continue
                    drafted.append((token, probability))
                    if len(drafted) >= wanted[sequence]:
                        del heads[sequence]
                heads = self._step({sequence: drafts[sequence][-1][0] for sequence in heads})
        except NativeError:
            for sequence in wanted:
                self.forget(sequence)
            return {}
        return {sequence: _draft(drafted) for sequence, drafted in drafts.items()}

    def forget(self, sequence: Sequence) -> None:
        """See ``Drafter.forget``."""
        place = self._places.pop(sequence, None)
        if place is not None:
            self._context.memory.remove(place.seq, 0, None)
            self._free.append(place.seq)

    def idle(self) -> None:
        """See ``Drafter.idle``."""

    def close(self) -> None:
        """See ``Drafter.close``."""
        self._context.close()
        self._model.close()

    # --- inside ---

    def _catch_up(self, sequences: list[Sequence]) -> dict[Sequence, tuple[int, float]]:
        """Compute what the sequences have and the draft model has not, as much as a step may: those that are ready."""
        budget = self._cost.prefill_limit(self._target, _LEAST_CATCH_UP, self._context.n_batch)
        rows: dict[Sequence, Tokens] = {}
        for sequence in sequences:
            place = self._place(sequence)
            # The newest token is computed again where the memory has it: its logits are needed.
            kept = min(common_prefix(place.tokens, sequence.tokens), len(sequence.tokens) - 1)
            if kept < len(place.tokens):
                self._context.memory.remove(place.seq, kept, None)
                del place.tokens[kept:]
            pending = sequence.tokens[kept : kept + budget]
            if pending and self._make_room(len(pending), sequence, rows):
                rows[sequence] = pending
                budget -= len(pending)
            if budget < 1:
                break
        heads = self._decode(rows)
        return {sequence: head for sequence, head in heads.items() if self._is_level(sequence)}

    def _step(self, tokens: dict[Sequence, int]) -> dict[Sequence, tuple[int, float]]:
        """One more token for each sequence."""
        rows: dict[Sequence, Tokens] = {}
        for sequence, token in tokens.items():
            if self._make_room(1, sequence, rows):
                rows[sequence] = row((token,))
        began = monotonic()
        heads = self._decode(rows)
        if rows:
            seconds = monotonic() - began
            self._price = seconds if self._price is None else self._price + _ALPHA * (seconds - self._price)
        return heads

    def _is_level(self, sequence: Sequence) -> bool:
        return len(self._places[sequence].tokens) == len(sequence.tokens)

    def _decode(self, rows: dict[Sequence, Tokens]) -> dict[Sequence, tuple[int, float]]:
        """Compute the rows; the most likely token behind each, and its probability."""
        rows = {sequence: tokens for sequence, tokens in rows.items() if sequence in self._places}  # some gave way
        if not rows:
            return {}
        self._batch.clear()
        index: dict[Sequence, int] = {}
        for sequence, tokens in rows.items():
            place = self._places[sequence]
            index[sequence] = self._batch.add_run(place.seq, len(place.tokens), tokens, logits=True)
        began = monotonic()
        if self._context.decode(self._batch) != 0:
            raise NativeError("the draft model has no room")
        n_rows = sum(map(len, rows.values()))
        singles = n_rows if n_rows == len(rows) else 0
        self._cost.measured(singles, n_rows - singles, monotonic() - began)
        for sequence, tokens in rows.items():
            self._places[sequence].tokens += tokens
        return {sequence: _best(self._context.logits_row(at)[: self._n_vocab]) for sequence, at in index.items()}

    def _place(self, sequence: Sequence) -> _Place:
        place = self._places.pop(sequence, None)
        if place is None:
            if not self._free:
                self.forget(next(iter(self._places)))
            place = _Place(self._free.pop(), row())
        self._places[sequence] = place
        return place

    def _make_room(self, n_cells: int, sequence: Sequence, rows: Mapping[Sequence, Tokens]) -> bool:
        """Whether so many cells are free, at worst once those are forgotten that were drafted for longest ago.

        ``rows`` are computed with them.
        """
        used = {other: len(place.tokens) + len(rows.get(other, ())) for other, place in self._places.items()}
        n_used = sum(used.values())
        while n_used + n_cells > self._context.n_ctx:
            oldest = next(iter(self._places))
            if oldest is sequence:
                return False
            n_used -= used[oldest]
            self.forget(oldest)
        return True


def _best(row: NDArray[np.float32]) -> tuple[int, float]:
    token = int(row.argmax())
    return token, 1 / float(np.exp(row - row[token]).sum())


def _draft(drafted: list[tuple[int, float]]) -> Draft:
    """Tokens of about the same certainty are of one level: how often the draft model is right then is measured."""
    levels = tuple(("model", min(9, int(-np.log2(max(1 - p, 1e-3))))) for _, p in drafted)
    return Draft(tuple(token for token, _ in drafted), levels, tuple(p for _, p in drafted))


def open_draft_model(
    options: SpeculationOptions, backend: Backend, context: ContextOptions, step_target: float
) -> DraftModel:
    """Load it. Raises ModelLoadError, also where its vocabulary is another one."""
    path = options.model.path
    assert isinstance(backend, LlamaBackend), "only this backend loads models"
    check_metadata(path)
    model = Model(options.model)
    try:
        facts = model.facts()
        if facts.has_encoder or facts.is_recurrent:
            raise ModelLoadError(f"cannot draft with {path}: it has an encoder or a recurrent state")
        difference = vocabulary_difference(backend.vocab, model.vocab)
        if difference is not None:
            raise ModelLoadError(f"cannot draft with {path}: {difference}")
        n_batch = min(backend.info.n_batch, backend.info.n_ctx)
        size = attrs.evolve(
            context,
            n_ctx=backend.info.n_ctx,
            n_batch=n_batch,
            n_seq_max=min(backend.info.n_slots, most_sequences(facts, swa_full=True)),
            kv_unified=True,
            swa_full=True,
        )
        return DraftModel(model, Context(model, size), backend.info.n_vocab, options.least_probability, step_target)
    except BaseException:
        model.close()
        raise


def vocabulary_difference(ours: LlamaVocab, drafts: LlamaVocab) -> str | None:
    """Why tokens of the one are no tokens of the other; None: they are the same."""
    if ours.vocab_type != drafts.vocab_type:
        return "its vocabulary is of another type"
    if abs(ours.n_vocab - drafts.n_vocab) > _MOST_SIZE_DIFFERENCE:
        return f"its vocabulary has {drafts.n_vocab} tokens, the model's {ours.n_vocab}"
    if (ours.bos, ours.eos, ours.add_bos) != (drafts.bos, drafts.eos, drafts.add_bos):
        return "its vocabulary begins or ends texts in another way"
    for token in range(min(ours.n_vocab, drafts.n_vocab)):
        if ours.piece(token, special=True) != drafts.piece(token, special=True):
            return f"token {token} is another one in its vocabulary"
    return None
