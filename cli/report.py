"""What the log says of the models once they are ready."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.native.options import Pooling
from llamabox.settings import Settings

if TYPE_CHECKING:
    from engine.bridge import BridgedEngine
    from engine.image_bridge import BridgedImageEngine

log = logging.getLogger("cli.serve")


def report_ignored(settings: Settings) -> None:
    """Flags that do nothing."""
    if settings.ignored:
        log.warning(
            "without effect: %s: the only model makes images, text models take them", " ".join(settings.ignored)
        )


def report_images(engine: "BridgedImageEngine") -> None:
    """The image model."""
    info = engine.info
    log.info(
        "image model %s: %s, images up to %dx%d, %d threads%s",
        Path(info.path).name,
        info.version or "of no known kind",
        info.max_width,
        info.max_height,
        info.n_threads,
        "" if info.can_abort else "; a running image cannot be stopped",
    )


def report_text(engine: "BridgedEngine", settings: Settings) -> None:
    """The text model, and what can be asked of it."""
    info = engine.info
    log.info(
        "model %s: %s, %.2f GiB, trained for %d tokens", Path(info.path).name, info.description, info.size / 2**30,
        info.n_ctx_train,
    )  # fmt: skip
    threads, cores = settings.engine.context.n_threads, os.process_cpu_count() or 1
    if info.no_generation is None:
        log.info(
            "%d slots of %d tokens (%d in the KV cache), %d threads of %d cores",
            info.n_slots, info.n_ctx_slot, info.n_ctx, threads, cores,
        )  # fmt: skip
    else:
        log.info("generates no text: %s; %d threads of %d cores", info.no_generation, threads, cores)
    _report_embeddings(engine)
    if engine.media is not None:
        takes = [name for name, able in (("images", info.vision), ("sound", info.audio)) if able]
        log.info("projector %s: takes %s", Path(settings.engine.media.path).name, " and ".join(takes))
    if engine.measured_rate is not None:
        log.info("measured %.1f tokens/s: the cap for X-Request-Tokens-Per-Second", engine.measured_rate)


def _report_embeddings(engine: "BridgedEngine") -> None:
    found = engine.embedding
    if found is None:
        if engine.info.no_generation is not None:
            log.warning("there is little to ask of this server: start it with --embeddings, a reranker with --rerank")
        return
    if found.pooling is Pooling.RANK:
        log.info("ranks documents: query and document of up to %d tokens together", found.max_tokens)
        return
    log.info(
        "embeds texts of up to %d tokens, pooling %s: vectors of %d",
        found.max_tokens, found.pooling.value, found.n_embd,
    )  # fmt: skip
    if found.pooling is Pooling.NONE:
        log.warning("with pooling none each token has a vector of its own, which no OpenAI client expects")
