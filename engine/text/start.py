"""Brings a text engine up on the calling thread: preflight, model, context, scheduler, warm-up, measured rate."""

import logging
import os
from collections.abc import Callable
from time import monotonic

import attrs

from engine.embedding.abilities import why_no_generation
from engine.embedding.llama_embedder import longest_text
from engine.embedding.only import NoGeneration
from engine.embedding.parallel import open_embedders
from engine.embedding.worker import EmbeddingWorker
from engine.errors import ModelLoadError
from engine.native import library
from engine.native.context_params import most_sequences
from engine.native.heap import give_back
from engine.native.model import Model, ModelFacts, Progress
from engine.native.options import ContextOptions, FlashAttention
from engine.text.backend import DecodeStatus, Run
from engine.text.checkpoints import Checkpoints
from engine.text.copy_cost import TimedMemory
from engine.text.foreign_cells import ForeignCells
from engine.text.host_memory import BLOCK, HostMemory
from engine.text.info import ModelInfo
from engine.text.kv_layout import may_advise, why_pool
from engine.text.llama_backend import LlamaBackend, model_info
from engine.text.load import load_model
from engine.text.loop import EngineLoop, Publish, Started
from engine.text.options import EngineOptions, KvLayout
from engine.text.plan import Limits
from engine.text.requests import SamplingParams
from engine.text.scheduler import Scheduler
from engine.text.speculation.options import SpeculationOptions
from engine.text.speculation.start import open_speculation

log = logging.getLogger("engine.text")

# Ids beyond the slots keep the prefixes of ended requests. More of them cost memory for logits (4 bytes x vocabulary).
SPARE_SEQUENCES = 24
# Measured on AVX2, Qwen 0.5B Q4_K_M: batches of 8, 16, 17, 32 tokens take 133, 165, 199, 278 ms.
_TILE = 16
# llama.cpp's flash attention on processors computes 64 rows and more at a time, fewer one by one. Behind 2,400 tokens
# and beside 8 streams, 24 tokens of a prompt take 862 ms (36 each), 56 take 997 (18 each). Ours has no such step.
_DEEP_TILE = 64
_MOST_MASK_THREADS = 4
_MEASURED_PROMPT = 32
_MEASURED_STEPS = 32


type Load = Callable[[EngineOptions, Progress | None], Model]


def start_text_engine(
    options: EngineOptions, publish: Publish, progress: Progress | None = None, *, load: Load = load_model
) -> Started:
    """Load the model, or take it from whoever has begun to, and make it ready. Raises ModelLoadError."""
    model = load(options, progress)
    try:
        return _start(options, publish, model)
    except BaseException:
        model.close()
        raise


def _start(options: EngineOptions, publish: Publish, model: Model) -> Started:
    """The engine over a loaded model, which the backend closes from here on."""
    facts = model.facts()
    embedder = open_embedders(model, options.context, options.embedding) if options.embedding.enabled else None
    reason = why_no_generation(facts)
    backend = _generation(options, model) if reason is None else _no_generation(options, model, reason)
    info = backend.info
    limits = _limits(options, info, backend.n_seqs)
    host = _host_memory(options, backend, limits) if isinstance(backend, LlamaBackend) else None
    copies = None if info.kv_unified else TimedMemory(backend)
    checkpoints = _checkpoints(options, backend, limits) if isinstance(backend, LlamaBackend) else None
    scheduler = Scheduler(limits, copies or backend, host, checkpoints)
    rate = None
    if isinstance(backend, LlamaBackend):
        if options.warmup:
            backend.warmup()
        rate = _measure_rate(backend) if options.measure_rate else None
    if embedder is not None and options.warmup:
        embedder.warmup()
    speculation = open_speculation(_drafting(options, model), backend, options.context, step_target=options.step_target)
    loop = EngineLoop(
        backend,
        scheduler,
        publish,
        step_target=options.step_target,
        mask_threads=_spare_cores(options.context),
        embeddings=EmbeddingWorker(embedder),
        host=host or checkpoints,
        speculation=speculation,
        copies=copies,
        foreign=ForeignCells(_advise) if may_advise(options, model) else None,
        tidy=give_back,
        debug=options.debug,
    )
    if speculation.enabled:
        backend.info = attrs.evolve(backend.info, speculative=True)
    return Started(backend, loop, rate)


def _advise(share: float) -> None:
    log.info(
        "%.0f%% of the computing time goes to reading what other conversations hold: --no-kv-unified would give each "
        "slot a KV cache of its own",
        100 * share,
    )


def _drafting(options: EngineOptions, model: Model) -> SpeculationOptions:
    """The options for drafts, with a draft model that is read as the model is."""
    read_alike = {name: getattr(model.options, name) for name in ("use_mmap", "use_mlock", "extra_buffers")}
    return attrs.evolve(options.speculation, model=attrs.evolve(options.speculation.model, **read_alike))


def _generation(options: EngineOptions, model: Model) -> LlamaBackend:
    if model.facts().has_encoder:
        raise ModelLoadError(f"cannot use {options.model.path}: encoder-decoder models are not supported")
    reason = why_pool(options, model)
    if reason is None:
        log.info("KV cache: a stream for each of %d slots", options.n_parallel)
    else:
        log.info("KV cache: one for all slots (%s)", reason.value)
    return LlamaBackend(
        model,
        options.context,
        tune=lambda facts, context: _context_for(options, facts, context, unified=reason is not None),
        n_slots=options.n_parallel,
        whole_context=options.kv_layout is KvLayout.UNIFIED,
        adapters=options.adapters,
        media=options.media,
        copies_cells=options.cache_ram > 0,
    )


def _no_generation(options: EngineOptions, model: Model, reason: str) -> NoGeneration:
    """A slot's size is then that of the longest text. Raises ModelLoadError for what it cannot use."""
    if options.adapters.loras or options.adapters.control_vectors or options.media.path:
        raise ModelLoadError(f"adapters, control vectors and projectors are for models that generate: {reason}")
    n_slots, n_ctx = options.n_parallel, longest_text(model.facts(), options.context.n_ctx)
    n_batch = max(options.context.n_ubatch, n_slots)
    info = model_info(
        model, n_slots, n_ctx=n_ctx, n_ctx_slot=n_ctx, n_batch=n_batch, n_ubatch=n_batch, can_shift=False,
        no_generation=reason,
    )  # fmt: skip
    return NoGeneration(model, info, reason)


def can_reuse(facts: ModelFacts | ModelInfo, *, swa_full: bool) -> bool:
    """Whether prefixes may be shared: not with a recurrent state, and not with a window whose cells are given up."""
    return not facts.is_recurrent and (facts.n_swa == 0 or swa_full)


def _context_for(
    options: EngineOptions, facts: ModelFacts, context: ContextOptions, *, unified: bool
) -> ContextOptions:
    if not unified:
        return attrs.evolve(context, n_seq_max=options.n_parallel, kv_unified=False)
    spare = SPARE_SEQUENCES if can_reuse(facts, swa_full=context.swa_full) else 0
    copies = 1 if spare and options.cache_ram else 0  # what cells are copied by way of
    most = most_sequences(facts, swa_full=context.swa_full)
    if options.n_parallel > most:
        raise ModelLoadError(f"at most {most} slots (--parallel) are possible with a sliding window and --swa-full")
    n_seq_max = min(most, options.n_parallel + spare + copies)
    return attrs.evolve(context, n_seq_max=n_seq_max, kv_unified=True)


def _deep_tile(options: EngineOptions) -> int:
    if options.context.flash_attention is FlashAttention.OFF or library.kernels().library is not None:
        return _TILE
    return _DEEP_TILE


def _limits(options: EngineOptions, info: ModelInfo, n_seqs: int) -> Limits:
    if info.n_batch < info.n_slots:
        raise ModelLoadError(
            f"a batch of {info.n_batch} tokens (--batch-size, at most the context) is too small for "
            f"{info.n_slots} slots (--parallel)"
        )
    reuse = can_reuse(info, swa_full=options.context.swa_full)
    if not reuse and info.no_generation is None:
        _say_what_is_kept(options, info)
    if options.cache_reuse and not (reuse and info.can_shift):
        reason = "generates no text" if info.no_generation is not None else "cannot move what it has computed"
        raise ModelLoadError(f"--cache-reuse is of no use here: this model {reason}")
    return Limits(
        n_slots=info.n_slots,
        n_cells=info.n_ctx,
        n_ctx_slot=info.n_ctx_slot,
        n_batch=info.n_batch,
        n_seqs=n_seqs,
        n_vocab=info.n_vocab,
        kv_unified=info.kv_unified,
        tile=_TILE,
        deep_tile=_deep_tile(options),
        can_reuse=reuse,
        can_cut=not info.is_recurrent,
        can_shift=info.can_shift and options.context_shift,
        continuous_batching=options.continuous_batching,
        n_keep_always=1 if info.add_bos else 0,
        n_adapters=len(info.loras),
        reuse_chunk=options.cache_reuse,
        slot_similarity=options.slot_similarity,
    )


def _say_what_is_kept(options: EngineOptions, info: ModelInfo) -> None:
    what = "a recurrent state" if info.is_recurrent else "a sliding window (--swa-full shares all prefixes)"
    if options.cache_ram:
        log.info("this model has %s: prompts are kept in memory, of chosen lengths (--cache-ram)", what)
    else:
        log.warning("this model has %s: without --cache-ram no prompt is reused", what)


def _checkpoints(options: EngineOptions, backend: LlamaBackend, limits: Limits) -> Checkpoints | None:
    """What takes the place of the prefix cache; None where there is one, and where nothing is to be kept."""
    if options.cache_ram == 0 or limits.can_reuse:
        return None
    info = backend.info
    # What a recurrent state has passed over is part of it: there is no first position to look at.
    window = 0 if info.is_recurrent else info.n_swa
    return Checkpoints(backend, options.cache_ram << 20, window=window)


def _host_memory(options: EngineOptions, backend: LlamaBackend, limits: Limits) -> HostMemory | None:
    """Where prompts go that leave the KV cache; None: they are given up, as told or with the reason in the log."""
    if options.cache_ram == 0 or not limits.can_reuse:  # the latter has been said already
        return None
    if backend.cells is None:
        log.warning("prompts are not kept in memory (--cache-ram): all %d sequences are slots", backend.n_seqs)
        return None
    # Of a window the library saves what the last token sees: no block may be longer.
    n_swa = backend.info.n_swa
    block_size = min(BLOCK, n_swa) if n_swa else BLOCK
    return HostMemory(backend.cells, options.cache_ram << 20, block_size=block_size)


def _spare_cores(context: ContextOptions) -> int:
    """Cores that the decode leaves idle, as many of them as masks can use."""
    cores = os.process_cpu_count() or 1
    return max(0, min(_MOST_MASK_THREADS, cores - max(context.n_threads, context.n_threads_batch)))


def _measure_rate(backend: LlamaBackend) -> float:
    """Tokens per second of one sequence that decodes alone."""
    token = backend.info.bos if backend.info.bos is not None else 0
    n_prompt = min(_MEASURED_PROMPT, backend.info.n_batch, backend.info.n_ctx_slot // 4)
    n_steps = min(_MEASURED_STEPS, backend.info.n_ctx_slot // 2)
    sampler = backend.create_sampler(SamplingParams(temperature=0.0, ignore_eos=True))
    try:
        if backend.decode([Run(0, 0, [token] * n_prompt, True)]) is not DecodeStatus.OK:
            raise ModelLoadError("the speed could not be measured: the first batch found no room")
        token, _ = sampler.sample(n_prompt - 1)
        began = monotonic()
        for step in range(n_steps):
            backend.decode([Run(0, n_prompt + step, [token], True)])
            token, _ = sampler.sample(0)
        return n_steps / (monotonic() - began)
    finally:
        sampler.close()
        backend.remove(0, 0, None)
