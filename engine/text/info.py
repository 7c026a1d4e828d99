"""Read-only views that the engine publishes: the model, its slots, its counters."""

import attrs


@attrs.frozen(kw_only=True)
class FimTokens:
    """Control tokens around code with a hole ("fill in the middle"); None: the vocabulary has no such token."""

    prefix: int | None = None
    suffix: int | None = None
    middle: int | None = None
    repository: int | None = None  # before the repository's name
    separator: int | None = None  # before each file's name

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of those are missing without which no hole can be described."""
        needed = {"prefix": self.prefix, "suffix": self.suffix, "middle": self.middle}
        return tuple(name for name, token in needed.items() if token is None)


@attrs.frozen(kw_only=True)
class ModelInfo:
    """Facts of the loaded model and context. Counts in tokens, sizes in bytes."""

    path: str
    description: str  # e.g. "qwen2 1B Q4_K - Medium"
    architecture: str
    vocab_type: int
    n_vocab: int
    n_ctx_train: int
    n_embd: int
    n_params: int
    size: int
    n_ctx: int  # cells of the KV cache
    n_ctx_slot: int  # most tokens that one sequence may hold
    n_slots: int
    n_batch: int
    n_ubatch: int
    kv_unified: bool = True  # all sequences share cells; else each has a stream
    bos: int | None
    eos: int | None
    add_bos: bool
    can_shift: bool
    is_recurrent: bool
    has_encoder: bool
    n_swa: int
    chat_template: str | None  # the model's own Jinja text
    tool_template: str | None  # its "tool_use" variant
    fim: FimTokens = FimTokens()
    metadata: dict[str, str] = attrs.field(factory=dict)
    loras: tuple[str, ...] = ()  # files of the adapters, by id
    can_copy_state: bool = True  # cached prompts can be copied as a whole, into files
    no_generation: str | None = None  # why the model cannot generate text; None: it can
    vision: bool = False  # takes images
    audio: bool = False  # takes sound
    speculative: bool = False  # tokens are drafted


@attrs.frozen(kw_only=True)
class SlotState:
    """One slot as it was after the last step."""

    id: int
    request_id: str | None  # None: idle
    n_ctx: int
    n_past: int  # cells of the KV cache; of an idle slot those that its last request left there
    n_prompt: int
    n_cached: int  # prompt tokens that came from the prefix cache
    n_decoded: int
    n_remain: int | None  # None: no limit
    is_prefilling: bool
    prompt: tuple[int, ...] = ()


@attrs.define(kw_only=True)
class EngineStats:
    """Running totals since start (counters), and the state after the last step (gauges).

    The engine thread counts in one of them; others get copies, in which one figure may be a step ahead of another.
    """

    prompt_tokens_total: int = 0  # computed
    prompt_cached_tokens_total: int = 0  # reused
    prompt_seconds_total: float = 0.0
    tokens_predicted_total: int = 0
    tokens_predicted_seconds_total: float = 0.0
    decode_total: int = 0  # llama_decode calls
    busy_slots_total: int = 0  # sum over decodes of the sequences in the batch
    preemptions_total: int = 0
    media_total: int = 0  # images and stretches of sound computed
    media_encoded_total: int = 0  # of these, encoded anew
    kv_cells: int = 0
    kv_cells_used: int = 0  # by running requests and by the cache
    kv_cells_active: int = 0  # by running requests alone
    host_bytes: int = 0  # of host memory that hold prompts which left the KV cache
    host_tokens: int = 0  # of those prompts
    host_saved_total: int = 0  # tokens copied out of the KV cache
    host_restored_total: int = 0  # tokens copied into it again
    host_lost_total: int = 0  # tokens that left it without having been copied
    host_save_seconds_total: float = 0.0  # of the engine thread
    host_restore_seconds_total: float = 0.0
    requests_processing: int = 0
    requests_deferred: int = 0
