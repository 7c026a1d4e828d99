"""How the model and its context are to be created, in the engine's own terms."""

import enum

import attrs


class SplitMode(enum.Enum):
    NONE = "none"
    LAYER = "layer"
    ROW = "row"


class FlashAttention(enum.Enum):
    ON = "on"
    OFF = "off"
    AUTO = "auto"


class Numa(enum.Enum):
    DISABLED = "disabled"
    DISTRIBUTE = "distribute"
    ISOLATE = "isolate"
    NUMACTL = "numactl"


class CacheType(enum.Enum):
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    Q4_1 = "q4_1"
    IQ4_NL = "iq4_nl"
    Q5_0 = "q5_0"
    Q5_1 = "q5_1"


class Pooling(enum.Enum):
    """How the vectors of a text's tokens become one; RANK gives scores instead, NONE leaves them."""

    NONE = "none"
    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    RANK = "rank"


class Attention(enum.Enum):
    """Whether a token sees the ones after it."""

    CAUSAL = "causal"
    NON_CAUSAL = "non-causal"


type MetadataValue = int | float | bool | str


@attrs.frozen(kw_only=True)
class Placement:
    """On which processors a team of threads runs, and how. Nothing given: as the system and the library like."""

    processors: tuple[int, ...] = ()  # numbers as the system counts them; (): all
    strict: bool = False  # one processor for each thread instead of all for all
    priority: int = 0  # 0 the inherited one, 1 to 3 more and more real time
    poll: int | None = None  # 0 to 100: how long threads spin before they sleep; None: the library's choice


@attrs.frozen(kw_only=True)
class ModelOptions:
    """What llama_model_params needs. ``devices`` None: all; (): CPU only."""

    path: str
    n_gpu_layers: int = -1  # -1: all
    devices: tuple[str, ...] | None = None
    split_mode: SplitMode = SplitMode.LAYER
    main_gpu: int = 0
    tensor_split: tuple[float, ...] = ()
    use_mmap: bool = True
    use_mlock: bool = False
    extra_buffers: bool = True  # repacked and AMX weights; the preflight may switch it off
    metadata_overrides: tuple[tuple[str, MetadataValue], ...] = ()
    rpc_servers: tuple[str, ...] = ()  # HOST:PORT; their devices are known to the library before the model is loaded
    tensor_overrides: tuple[tuple[str, str], ...] = ()  # (regular expression, buffer type), the first match counts


@attrs.frozen
class Scaled:
    """A file of adapter weights, and how strongly it is to be applied."""

    path: str
    scale: float = 1.0


@attrs.frozen(kw_only=True)
class AdapterOptions:
    """What is applied on top of the model. The id of a LoRA is its place in ``loras``."""

    loras: tuple[Scaled, ...] = ()
    apply_loras: bool = True  # False: requests without a choice of their own use none, until told otherwise
    control_vectors: tuple[Scaled, ...] = ()
    control_layers: tuple[int, int] | None = None  # first and last layer that control vectors change; None: all


@attrs.frozen(kw_only=True)
class ContextOptions:
    """What llama_context_params needs. None: the model's own value."""

    n_ctx: int = 4096  # cells, 0: the model's training context
    n_batch: int = 2048
    n_ubatch: int = 512
    n_seq_max: int = 1
    n_threads: int = 1
    n_threads_batch: int = 1
    placement: Placement = Placement()
    placement_batch: Placement = Placement()
    flash_attention: FlashAttention = FlashAttention.AUTO
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    offload_kqv: bool = True
    kv_unified: bool = True
    swa_full: bool = False
    rope_scaling: str | None = None  # none, linear, yarn
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    yarn_orig_ctx: int = 0
    yarn_ext_factor: float = -1.0
    yarn_attn_factor: float = 1.0
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    embeddings: bool = False  # the output is vectors, not logits
    pooling: Pooling | None = None
    attention: Attention | None = None


@attrs.frozen(kw_only=True)
class MediaOptions:
    """How images and sounds are encoded."""

    path: str = ""  # the projector's file; "": none
    n_cached: int = 16  # encoded chunks that are kept
