"""The library's parameters for a context, from ours."""

from typing import Any, Final

from engine.errors import ModelLoadError
from engine.native.model import ModelFacts
from engine.native.options import Attention, CacheType, ContextOptions, FlashAttention, Pooling

_CACHE_TYPES: Final = {
    CacheType.F32: "GGML_TYPE_F32",
    CacheType.F16: "GGML_TYPE_F16",
    CacheType.BF16: "GGML_TYPE_BF16",
    CacheType.Q8_0: "GGML_TYPE_Q8_0",
    CacheType.Q4_0: "GGML_TYPE_Q4_0",
    CacheType.Q4_1: "GGML_TYPE_Q4_1",
    CacheType.IQ4_NL: "GGML_TYPE_IQ4_NL",
    CacheType.Q5_0: "GGML_TYPE_Q5_0",
    CacheType.Q5_1: "GGML_TYPE_Q5_1",
}
_FLASH_ATTENTION: Final = {FlashAttention.AUTO: -1, FlashAttention.OFF: 0, FlashAttention.ON: 1}
_ROPE_SCALING: Final = {None: -1, "none": 0, "linear": 1, "yarn": 2}
POOLING: Final = {Pooling.NONE: 0, Pooling.MEAN: 1, Pooling.CLS: 2, Pooling.LAST: 3, Pooling.RANK: 4}
_ATTENTION: Final = {None: -1, Attention.CAUSAL: 0, Attention.NON_CAUSAL: 1}
MOST_SEQUENCES: Final = 256  # the library's numbers


def most_sequences(facts: ModelFacts, *, swa_full: bool) -> int:
    """How many sequences a context can have: half as many where each takes two numbers (see ContextMemory)."""
    return MOST_SEQUENCES // 2 if facts.n_swa and swa_full else MOST_SEQUENCES


def native_params(lib: Any, options: ContextOptions, path: str) -> Any:
    """For a model that was read from ``path``. Raises ModelLoadError for what the library would not take."""
    most = lib.llama_max_parallel_sequences()
    if not 1 <= options.n_seq_max <= most:
        raise ModelLoadError(f"cannot create a context for {path}: {options.n_seq_max} sequences, 1 to {most} fit")
    if options.rope_scaling not in _ROPE_SCALING:
        raise ModelLoadError(f"cannot create a context for {path}: unknown RoPE scaling {options.rope_scaling}")
    if min(options.n_ctx, options.n_batch - 1, options.n_ubatch - 1) < 0:
        raise ModelLoadError(f"cannot create a context for {path}: context and batch sizes must be positive")
    params = lib.llama_context_default_params()
    params.n_ctx = options.n_ctx
    params.n_batch = options.n_batch
    params.n_ubatch = options.n_ubatch
    params.n_seq_max = options.n_seq_max
    # The library reserves an output for each sequence, and aborts where that is more than its default, a batch.
    params.n_outputs_max = max(options.n_batch, options.n_seq_max)
    params.n_threads = options.n_threads
    params.n_threads_batch = options.n_threads_batch
    params.flash_attn_type = _FLASH_ATTENTION[options.flash_attention]
    params.type_k = getattr(lib, _CACHE_TYPES[options.cache_type_k])
    params.type_v = getattr(lib, _CACHE_TYPES[options.cache_type_v])
    params.offload_kqv = options.offload_kqv
    params.kv_unified = options.kv_unified
    params.swa_full = options.swa_full
    params.no_perf = True
    params.rope_scaling_type = _ROPE_SCALING[options.rope_scaling]
    params.rope_freq_base = options.rope_freq_base or 0.0  # 0: the model's
    params.rope_freq_scale = options.rope_freq_scale or 0.0
    params.yarn_orig_ctx = options.yarn_orig_ctx
    params.yarn_ext_factor = options.yarn_ext_factor
    params.yarn_attn_factor = options.yarn_attn_factor
    params.yarn_beta_fast = options.yarn_beta_fast
    params.yarn_beta_slow = options.yarn_beta_slow
    params.embeddings = options.embeddings
    params.pooling_type = -1 if options.pooling is None else POOLING[options.pooling]
    params.attention_type = _ATTENTION[options.attention]
    return params
