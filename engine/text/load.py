"""Loads the weights: what can be checked before it is checked before."""

import logging

import attrs

from engine.native import library, preflight
from engine.native.gguf_file import parts, read_gguf
from engine.native.kernels.load import all_ours
from engine.native.metadata_check import check_metadata
from engine.native.model import Model, Progress
from engine.native.options import ModelOptions, Numa
from engine.native.projector_check import check_projector
from engine.text.options import EngineOptions

log = logging.getLogger("engine.text")


def load_model(options: EngineOptions, progress: Progress | None = None) -> Model:
    """The model of an engine, on whatever thread. Raises ModelLoadError. ``progress``: see ``engine.native.model``."""
    if options.numa is not Numa.DISABLED:
        library.init_numa(options.numa)
    check_metadata(options.model.path)
    if options.media.path:
        check_projector(options.media.path)
    return Model(attrs.evolve(options.model, extra_buffers=_extra_buffers(options.model)), progress)


def _extra_buffers(options: ModelOptions) -> bool:
    """Whether the library's own formats of weights serve best."""
    if not options.extra_buffers:
        return False
    if _ours(options.path):
        return False
    verdict = preflight.check(extra_buffers=True)
    if verdict.reason is not None:
        log.warning("%s", verdict.reason)
    return verdict.extra_buffers


def _ours(path: str) -> bool:
    """Whether matrix products are ours, which take the weights as they are in the file."""
    kernels = library.kernels()
    if kernels.library is None:
        log.info("matrix products: llama.cpp's own (%s)", kernels.reason)
        return False
    alone = all_ours(tensor for part in parts(path) for tensor in read_gguf(str(part)).tensors)
    beside = "" if alone else ", beside llama.cpp's own for weights of other types"
    log.info("matrix products: ours for %s%s", kernels.variant, beside)
    return True
