"""How the text engine is to run."""

import enum

import attrs

from engine.embedding.options import EmbeddingOptions
from engine.native.options import AdapterOptions, ContextOptions, MediaOptions, ModelOptions, Numa
from engine.text.speculation.options import SpeculationOptions


class KvLayout(enum.Enum):
    """How the cells of the KV cache are laid out (see ``engine.text.kv_layout``)."""

    AUTO = "auto"  # one pool, of which each slot gets its share
    UNIFIED = "unified"  # one pool, of which a slot may use all
    STREAMS = "streams"  # a stream for each slot


@attrs.frozen(kw_only=True)
class EngineOptions:
    """The text engine's settings. ``context.n_ctx`` is shared by ``n_parallel`` slots."""

    model: ModelOptions
    context: ContextOptions = attrs.field(factory=ContextOptions)
    adapters: AdapterOptions = attrs.field(factory=AdapterOptions)
    embedding: EmbeddingOptions = attrs.field(factory=EmbeddingOptions)
    media: MediaOptions = attrs.field(factory=MediaOptions)
    speculation: SpeculationOptions = attrs.field(factory=SpeculationOptions)
    n_parallel: int = 1  # slots
    slot_similarity: float = 0.5  # --slot-prompt-similarity
    kv_layout: KvLayout = KvLayout.AUTO  # --kv-unified, --no-kv-unified
    continuous_batching: bool = True
    context_shift: bool = True
    cache_ram: int = 2048  # MiB of host memory for prompts that left the KV cache; 0: none
    cache_reuse: int = 0  # smallest run of tokens to reuse at another position; 0: off
    numa: Numa = Numa.DISABLED  # chosen once a process, before the model is loaded
    warmup: bool = True
    measure_rate: bool = False  # --tokens-per-second -1: measure the cap before ready
    step_target: float = 0.150  # seconds that a step may take while streams are running
    event_buffer: int = 64  # events that a request may have unread before its sequence pauses
    debug: bool = False  # compare the KV books with the library's whenever idle and every so many steps
