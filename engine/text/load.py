"""Loads the weights: what can be checked before it is checked before."""

import logging

import attrs

from engine.native import library, preflight
from engine.native.metadata_check import check_metadata
from engine.native.model import Model, Progress
from engine.native.options import Numa
from engine.native.projector_check import check_projector
from engine.text.options import EngineOptions

log = logging.getLogger("engine.text")


def load_model(options: EngineOptions, progress: Progress | None = None) -> Model:
    """The model of an engine, on whatever thread. Raises ModelLoadError. ``progress``: see ``engine.native.model``."""
    if options.numa is not Numa.DISABLED:
        library.init_numa(options.numa)
    verdict = preflight.check(options.model.extra_buffers)
    if verdict.reason is not None:
        log.warning("%s", verdict.reason)
    check_metadata(options.model.path)
    if options.media.path:
        check_projector(options.media.path)
    return Model(attrs.evolve(options.model, extra_buffers=verdict.extra_buffers), progress)
