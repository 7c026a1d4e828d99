"""What the server tells about itself: health, models, props, slots, metrics."""

from typing import Any

from api.errors import ApiError, not_supported
from api.gate import token_side
from api.http import ApiRequest, Response, json_response, raw_response
from api.images.meta import image_meta
from api.images.state import image_props, image_slot
from api.openai_stream import FINGERPRINT
from api.settings_json import generation_settings, sampling_json
from engine.bridge import TextEngine
from engine.text.info import ModelInfo, SlotState
from engine.text.requests import GenerationRequest
from llamabox.chat.injection import MEDIA_MARKER
from llamabox.metrics import CONTENT_TYPE
from llamabox.services import Services


async def health(services: Services, request: ApiRequest) -> Response:
    """The phase was looked at on the way here."""
    return json_response({"status": "ok"})


async def models(services: Services, request: ApiRequest) -> Response:
    """One entry for each name of the model."""
    return json_response({"object": "list", "data": _models(services)})


async def model(services: Services, request: ApiRequest) -> Response:
    """The entry of one name."""
    name = (request.view_args or {}).get("model", "")
    for entry in _models(services):
        if entry["id"] == name:
            return json_response(entry)
    raise ApiError(404, f"The model {name!r} does not exist", "model")


async def props(services: Services, request: ApiRequest) -> Response:
    """The models and what a request gets that says nothing.

    What is said of the image model stands in ``images``; where it is the only one, the fields of text are there too,
    and tell of it what they can.
    """
    images = {} if services.images is None else {"images": image_props(services, services.images)}
    if services.text is None and services.images is not None:
        return json_response(_props_without_text(services, images["images"]) | images)
    engine, prompts = token_side(services)
    info = engine.info
    body = {
        "default_generation_settings": {"n_ctx": info.n_ctx_slot, "params": _default_settings(services)},
        "total_slots": info.n_slots,
        "bos_token": _spelling(engine, info.bos),
        "eos_token": _spelling(engine, info.eos),
        "build_info": FINGERPRINT,
        "model_path": info.path,
        "model_alias": services.model_ids[0],
        "chat_template": prompts.source,
        "modalities": {"vision": info.vision, "audio": info.audio},
        "media_marker": MEDIA_MARKER,
        "is_sleeping": False,
        "kv_unified": info.kv_unified,
    }
    return json_response(body | images)


async def slots(services: Services, request: ApiRequest) -> Response:
    """What each slot does: those of text, then the one of images.

    Whoever asks for an idle slot means one of text where there is a text model.
    """
    check_slots(services)
    found = [] if services.text is None else [_slot(services, state) for state in services.text.slots()]
    asked = list(found)
    if services.images is not None:
        found.append(image_slot(services.images, len(found)))
    asked = asked or found
    if request.args.get("fail_on_no_slot", "") not in {"", "0"} and all(slot["is_processing"] for slot in asked):
        raise ApiError(503, "No slot is idle")
    return json_response(found)


async def metrics(services: Services, request: ApiRequest) -> Response:
    """Prometheus text."""
    check_metrics(services)
    return raw_response(services.metrics.expose(), content_type=CONTENT_TYPE)


def check_slots(services: Services) -> None:
    """Raises ApiError 501 where the slots are not shown."""
    if not services.settings.server.slots:
        raise not_supported("This server does not show its slots: start it with --slots")


def check_metrics(services: Services) -> None:
    """Raises ApiError 501 where there are no metrics."""
    if not services.settings.server.metrics:
        raise not_supported("This server shows no metrics: start it with --metrics")


def _props_without_text(services: Services, image: dict[str, Any]) -> dict[str, Any]:
    return {
        "default_generation_settings": {"n_ctx": 0, "params": image["default_generation_settings"]},
        "total_slots": image["total_slots"],
        "bos_token": "",
        "eos_token": "",
        "build_info": FINGERPRINT,
        "model_path": image["model_path"],
        "model_alias": image["model_alias"],
        "chat_template": "",
        "modalities": {"vision": False, "audio": False},
        "media_marker": MEDIA_MARKER,
        "is_sleeping": False,
        "kv_unified": True,
    }


def _spelling(engine: TextEngine, token: int | None) -> str:
    return "" if token is None else engine.vocab.piece(token, special=True).decode(errors="replace")


def _models(services: Services) -> list[dict[str, Any]]:
    meta = _meta(services)
    entry = {"object": "model", "created": services.created, "owned_by": "llama-box", "meta": meta}
    data = [{"id": name, **entry} for name in services.model_ids] if services.text is not None else []
    if services.images is not None:
        entry = entry | {"meta": image_meta(services.images.info, services.settings.images)}
        data += [{"id": name, **entry} for name in services.image_ids]
    return data


def _meta(services: Services) -> dict[str, Any] | None:
    if services.text is None:
        return None
    return {
        **_facts(services.text.info),
        "ctx_shift": services.settings.engine.context_shift and services.text.info.can_shift,
        "support_vision": services.text.info.vision,
        "support_audio": services.text.info.audio,
        "support_speculative": services.text.info.speculative,
        "support_tool_calls": services.text.info.no_generation
        is None,  # where the template shows no tools, the prompt does
        "support_reasoning": services.prompts is not None and services.prompts.reasons,
        **sampling_json(services.settings.defaults.sampling),
    }


def _facts(info: ModelInfo) -> dict[str, Any]:
    return {
        "vocab_type": info.vocab_type,
        "n_vocab": info.n_vocab,
        "n_ctx_train": info.n_ctx_train,
        "n_embd": info.n_embd,
        "n_params": info.n_params,
        "size": info.size,
        "n_ctx": info.n_ctx,
        "n_slot": info.n_slots,
        "n_slot_ctx": info.n_ctx_slot,
    }


def _default_settings(services: Services) -> dict[str, Any]:
    defaults = services.settings.defaults
    request = GenerationRequest(
        id="",
        prompt=(),
        sampling=defaults.sampling,
        max_tokens=defaults.n_predict if defaults.n_predict >= 0 else None,
        until_context_full=defaults.n_predict == -2,
        n_keep=defaults.n_keep,
        stop=defaults.stop,
        cache_prompt=defaults.cache_prompt,
        adapters=services.adapters,
    )
    return generation_settings(request, stream=False, timings_per_token=False)


def _slot(services: Services, state: SlotState) -> dict[str, Any]:
    busy = state.request_id is not None
    request = services.running.get(state.request_id) if state.request_id is not None else None
    settings = generation_settings(request, stream=False, timings_per_token=False) if request else {}
    return {
        "id": state.id,
        "id_task": state.request_id if busy else -1,
        "state": int(busy),
        "is_processing": busy,
        "is_prefilling": state.is_prefilling,
        "speculative": services.text is not None and services.text.info.speculative,
        "n_ctx": state.n_ctx,
        "n_past": state.n_past,
        "n_prompt_tokens": state.n_prompt,
        "n_prompt_tokens_cache": state.n_cached,
        "params": settings,
        "next_token": {
            "has_next_token": busy,
            "n_decoded": state.n_decoded,
            "n_remain": -1 if state.n_remain is None else state.n_remain,
            # While it runs none has been met; then the one that ended it.
            "stopping_word": "" if busy else services.running.stopping_words.get(state.id, ""),
        },
    }
