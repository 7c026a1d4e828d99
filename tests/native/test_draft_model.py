"""A draft model at work: what it proposes, and whose place it gives to whom."""

from pathlib import Path

import pytest

from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions
from engine.text.llama_backend import LlamaBackend
from engine.text.requests import GenerationRequest
from engine.text.sequence import Sequence
from engine.text.speculation.draft_model import DraftModel, open_draft_model, vocabulary_difference
from engine.text.speculation.drafter import Draft
from engine.text.speculation.options import SpeculationOptions
from tests.models.tiny_llm import write_tiny_llm


def drafter(path: Path, *, n_ctx: int = 256, n_seqs: int = 2, least_probability: float = 0.0) -> DraftModel:
    model = Model(ModelOptions(path=str(path)))
    options = ContextOptions(n_ctx=n_ctx, n_batch=64, n_ubatch=64, n_seq_max=n_seqs, n_threads=1, n_threads_batch=1)
    return DraftModel(model, Context(model, options), model.vocab.n_vocab, least_probability, 1000.0)


def text(key: str, tokens: list[int]) -> Sequence:
    return Sequence.of(GenerationRequest(id=key, prompt=tokens), 1, 0.0)


def drafts(found: DraftModel, sequence: Sequence, count: int, most: int = 40) -> tuple[int, ...]:
    """Ask until it has caught up with the prompt."""
    for _ in range(most):
        if draft := found.propose({sequence: count}).get(sequence):
            return draft.tokens
    raise AssertionError("it never drafts")


def test_a_draft_is_the_models_own_greedy_text_and_what_was_wrong_is_taken_back(tiny_model: Path) -> None:
    found = drafter(tiny_model)
    sequence = text("a", list(range(10, 70)))
    four = drafts(found, sequence, 4)
    assert len(four) == 4
    assert found.price is not None
    sequence.tokens.append(four[0])
    assert drafts(found, sequence, 3) == four[1:]
    sequence.tokens[-1] = (four[0] + 1) % 200
    again = drafts(found, sequence, 3)
    assert drafts(drafter(tiny_model), text("b", list(sequence.tokens)), 3) == again
    found.close()


def test_sequences_take_turns_where_there_are_few_places(tiny_model: Path) -> None:
    found = drafter(tiny_model, n_seqs=2)
    texts = [text(str(n), list(range(n, n + 20))) for n in range(5)]
    first = [drafts(found, each, 3) for each in texts]
    assert [drafts(found, each, 3) for each in texts] == first
    for each in texts:
        found.forget(each)
        found.forget(each)
    found.close()


def test_a_model_with_a_window_has_fewer_places(tiny_model: Path, tmp_path: Path) -> None:
    """Each of them takes two of the library's sequences."""
    context = ContextOptions(n_ctx=512, n_batch=256, n_ubatch=256, n_seq_max=200, kv_unified=True)
    path = write_tiny_llm(tmp_path / "window.gguf", sliding_window=32)
    backend = LlamaBackend(ModelOptions(path=str(tiny_model)), context, n_slots=200)
    options = SpeculationOptions(model=ModelOptions(path=str(path)), least_probability=0.0)
    found = open_draft_model(options, backend, context, 1.0)
    assert len(drafts(found, text("a", [1, 2, 3]), 2)) == 2
    found.close()
    backend.close()


def test_a_text_without_room_gets_no_draft(tiny_model: Path) -> None:
    found = drafter(tiny_model, n_ctx=256, n_seqs=1)
    full = text("a", [5] * 300)
    assert all(found.propose({full: 2}) == {} for _ in range(40))
    assert len(drafts(found, text("b", [1, 2, 3]), 2)) == 2
    found.close()


def test_who_is_drafted_for_together_is_counted_together(tiny_model: Path) -> None:
    """The last of them finds no room: one gives way, and not all."""
    found = drafter(tiny_model, n_ctx=256, n_seqs=3)
    texts = [text("a", [5] * 126), text("b", [6] * 127)]
    for each in texts:
        drafts(found, each, 1)
    for each in texts:
        each.tokens.extend((7, 8))
    assert found._context.n_ctx == 256
    assert [len(draft) for draft in found.propose(dict.fromkeys(texts, 1)).values()] == [1]
    found.close()


def test_a_draft_without_certainty_is_empty(tiny_model: Path) -> None:
    """It cost time all the same, which who asks must learn."""
    found = drafter(tiny_model, least_probability=1.1)
    sequence = text("a", [1, 2, 3])
    answers = [found.propose({sequence: 2}) for _ in range(40)]
    assert answers[-1] == {sequence: Draft()}
    found.close()


def test_a_vocabulary_is_its_own(tiny_model: Path) -> None:
    model = Model(ModelOptions(path=str(tiny_model)))
    assert vocabulary_difference(model.vocab, model.vocab) is None
    model.close()


@pytest.mark.parametrize(("logits", "outputs"), [(True, [1, 2, 3]), (False, [])])
def test_rows_of_drafted_tokens_have_logits(logits: bool, outputs: list[int], tiny_model: Path) -> None:
    model = Model(ModelOptions(path=str(tiny_model)))
    context = Context(model, ContextOptions(n_ctx=256, n_batch=64, n_ubatch=64))
    batch = context.new_batch()
    assert batch.add_run(0, 0, [1, 2, 3, 4], logits=logits, n_before=2) == 3
    assert batch.outputs == outputs
    model.close()
