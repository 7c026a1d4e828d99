"""How the KV cache's cells are laid out: one pool for all sequences, or a stream for each; and which one is chosen.

In a pool a prefix is shared without copies and any slot may use any cell, but each token's attention meets all cells in
use: those of unrelated conversations, and idle ones. In streams it meets those of its own sequence.

Measured with Qwen 0.5B on two cores (tools/bench/RESULTS.md): a foreign cell costs a token 1.1 µs with llama.cpp's
attention, of about 40 ms that a token costs beside others; ours steps over them, at next to no cost. Streams pay that
with other things. A prompt's tokens are no longer computed together with the tokens of those who generate (steps with
both take up to a third longer); gaps between the streams that run cost a pass over the weights each (25 to 30 ms) until
they are closed (``engine.text.stream_order``); a prefix is copied. So without being told a pool is chosen. Streams are
for whoever knows that most slots hold long conversations most of the time, and has another attention than ours; where
they would have been faster the log says so (``engine.text.foreign_cells``).
"""

import enum
from typing import Final

import attrs

from engine.errors import ModelLoadError, NativeError
from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions
from engine.native.stream_cells import StreamCopier
from engine.text.options import EngineOptions, KvLayout

_TRIAL_TOKENS: Final = 3


class Reason(enum.Enum):
    """Why a pool is used; the value is for the log."""

    CHOSEN = "--kv-unified"
    AUTOMATIC = "--no-kv-unified: one for each"
    ONE_SLOT = "there is one slot"
    RECURRENT = "the model's state is recurrent"
    WINDOW = "the model's attention has a window"
    MEDIA = "there is a projector"
    MOVES = "--cache-reuse takes over what other prompts have left"
    NO_COPIES = "the model's cells cannot be copied in part"


def why_pool(options: EngineOptions, model: Model) -> Reason | None:
    """None: each slot gets a stream. Raises ModelLoadError when that was asked for and cannot be."""
    reason = _why_pool(options, model)
    if reason not in (None, Reason.CHOSEN, Reason.AUTOMATIC, Reason.ONE_SLOT):
        raise ModelLoadError(f"--no-kv-unified is of no use here: {reason.value}")
    return reason


def may_advise(options: EngineOptions, model: Model) -> bool:
    """Whether a pool was chosen for want of knowledge, and streams might be asked for."""
    return options.kv_layout is KvLayout.AUTO and _why_no_streams(options, model) is None


def _why_pool(options: EngineOptions, model: Model) -> Reason | None:
    if options.kv_layout is not KvLayout.STREAMS:
        return Reason.CHOSEN if options.kv_layout is KvLayout.UNIFIED else Reason.AUTOMATIC
    return _why_no_streams(options, model) or (None if _copies(model, options.context) else Reason.NO_COPIES)


def _why_no_streams(options: EngineOptions, model: Model) -> Reason | None:
    """What is known without a try."""
    facts = model.facts()
    if options.n_parallel < 2:
        return Reason.ONE_SLOT
    if facts.is_recurrent:
        return Reason.RECURRENT
    if facts.n_swa:
        return Reason.WINDOW
    if options.media.path:
        return Reason.MEDIA
    if options.cache_reuse:
        return Reason.MOVES
    return None


def _copies(model: Model, options: ContextOptions) -> bool:
    """Whether the state of this model's cells can be taken apart: tried with a few tokens in a cache of its own.

    That is one pass over the weights, which the first request or the warm-up would make otherwise.
    """
    small = attrs.evolve(options, n_ctx=512, n_batch=32, n_ubatch=32, n_seq_max=2, kv_unified=False)
    context = Context(model, small)
    try:
        batch = context.new_batch()
        token = model.vocab.bos or 0
        batch.add_run(1, 0, [token] * _TRIAL_TOKENS, logits=True)
        if context.decode(batch) != 0:
            return False
        copier = StreamCopier(context)
        context.memory.copy(1, 0, 0, 1)
        copier.restore(0, 1, _TRIAL_TOKENS, copier.save(1, 1, _TRIAL_TOKENS))
        return context.memory.span(0) == (0, _TRIAL_TOKENS - 1)
    except NativeError:
        return False
    finally:
        context.close()
