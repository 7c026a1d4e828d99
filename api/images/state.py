"""What /props and /slots say of the image engine."""

from typing import Any, Final

from api.images.meta import image_meta, sampler_name
from engine.image.info import ImageProgressState
from engine.image.requests import ImageRequest
from engine.image_bridge import ImageEngine
from engine.native.sd.image import ImageParams
from llamabox.services import Services

# In the slot of an image engine, so that whoever reads slots of text finds every field.
_NO_TEXT: Final = {"is_prefilling": False, "speculative": False, "n_ctx": 0, "n_past": 0, "n_prompt_tokens": 0,
                   "n_prompt_tokens_cache": 0}  # fmt: skip
_LAST: Final = 99  # percent at most before the image is there


def percent(step: int, steps: int) -> int:
    """How far an image is."""
    return min(_LAST, 100 * step // steps) if steps else 0


def image_props(services: Services, engine: ImageEngine) -> dict[str, Any]:
    """The image model, and what a request gets that says nothing."""
    info = engine.info
    return {
        "model_path": info.path,
        "model_alias": services.image_ids[0],
        "total_slots": 1,
        "default_generation_settings": image_meta(info, services.settings.images),
        "loras": [{"id": number, "path": path} for number, path in enumerate(info.loras)],
        "control_net": info.has_control_net,
        "upscale_factor": info.upscale_factor,
    }


def image_slot(engine: ImageEngine, number: int) -> dict[str, Any]:
    """The one slot that images are made in, with what runs there and how much waits for it."""
    state = engine.current()
    return {
        "id": number,
        "id_task": -1 if state is None else state.request_id,
        "state": int(state is not None),
        "is_processing": state is not None,
        **_NO_TEXT,
        "params": {} if state is None else _settings(state),
        "next_token": {"has_next_token": False, "n_decoded": 0, "n_remain": -1, "stopping_word": ""},
        "image": None if state is None else _running(state),
        "requests_deferred": engine.stats().requests_deferred,
    }


def _running(state: ImageProgressState) -> dict[str, Any]:
    """``steps`` is 0 until the prompt is encoded."""
    request = state.request
    wanted = request.params if isinstance(request, ImageRequest) else request.image
    return {
        "index": state.index,
        "n": request.n if isinstance(request, ImageRequest) else 1,
        "progress": percent(state.step, state.steps),
        "progressed_steps": state.step,
        "steps": state.steps,
        "seed": request.params.seed + state.index if isinstance(request, ImageRequest) else -1,
        "width": wanted.width,
        "height": wanted.height,
    }


def _settings(state: ImageProgressState) -> dict[str, Any]:
    """The running request's parameters, under the names of the request's fields; without its prompts, as for text."""
    return image_settings(state.request.params) if isinstance(state.request, ImageRequest) else {}


def image_settings(params: ImageParams) -> dict[str, Any]:
    """What shapes a picture."""
    return {
        "size": f"{params.width}x{params.height}",
        "seed": params.seed,
        "sample_method": sampler_name(params.sampler),
        "sampling_steps": params.steps,
        "schedule_method": params.schedule.name.lower(),
        "cfg_scale": params.cfg_scale,
        "guidance": params.guidance,
        "slg_scale": params.slg_scale,
        "slg_skip_layers": params.slg_layers,
        "slg_start": params.slg_start,
        "slg_end": params.slg_end,
        "strength": params.strength,
        "control_strength": params.control_strength,
        "edit": params.init_image is not None,
        "mask": params.mask is not None,
        "control": params.control_image is not None,
    }
