"""What /v1/models and /props say of an image model."""

from typing import Any

from engine.image.info import ImageModelInfo
from engine.image.names import SAMPLERS
from engine.native.sd.options import Sampler
from llamabox.settings import ImageSettings


def sampler_name(sampler: Sampler) -> str:
    """What users call it."""
    return next(name for name, known in SAMPLERS.items() if known is sampler)


def image_meta(info: ImageModelInfo, settings: ImageSettings) -> dict[str, Any]:
    """Limits, and what a request gets that says nothing."""
    usual = info.kind.defaults
    return {
        "version": info.version,
        "max_batch_count": info.max_batch,
        "max_height": info.max_height,
        "max_width": info.max_width,
        "default_height": info.default_height,
        "default_width": info.default_width,
        "guidance": usual.guidance if settings.guidance is None else settings.guidance,
        "strength": usual.strength if settings.strength is None else settings.strength,
        "sample_method": sampler_name(settings.sampler or usual.sampler),
        "sampling_steps": usual.steps if settings.steps is None else settings.steps,
        "cfg_scale": usual.cfg_scale if settings.cfg_scale is None else settings.cfg_scale,
        "slg_scale": settings.slg_scale,
        "slg_skip_layers": settings.slg_layers,
        "slg_start": settings.slg_start,
        "slg_end": settings.slg_end,
        "schedule_method": settings.schedule.name.lower(),
        "n_slot": 1,
    }
