"""What an engine says of a model that is none."""

import attrs

from engine.text.info import ModelInfo

_INFO = ModelInfo(
    path="fake.gguf",
    description="fake",
    architecture="fake",
    vocab_type=1,
    n_vocab=257,
    n_ctx_train=4096,
    n_embd=8,
    n_params=1000,
    size=4000,
    n_ctx=64,
    n_ctx_slot=64,
    n_slots=1,
    n_batch=64,
    n_ubatch=64,
    bos=None,
    eos=None,
    add_bos=False,
    can_shift=True,
    is_recurrent=False,
    has_encoder=False,
    n_swa=0,
    chat_template=None,
    tool_template=None,
)


def fake_info(**changes: object) -> ModelInfo:
    """A small text model without a chat template, and without tokens that begin or end a text."""
    return attrs.evolve(_INFO, **changes)
