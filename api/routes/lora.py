"""GET and POST /lora-adapters."""

from api.decode import read
from api.errors import not_supported
from api.fields import LoraScale
from api.gate import text_side
from api.http import ApiRequest, Response, json_response
from api.lora import scales, shown_scale
from engine.text.info import ModelInfo
from llamabox.services import Services


async def adapters(services: Services, request: ApiRequest) -> Response:
    """The adapters and the scales that requests get that do not choose."""
    info = _info(services)
    current = dict(services.adapters)
    body = [
        {"id": adapter, "path": path, "scale": shown_scale(current.get(adapter, 0.0))}
        for adapter, path in enumerate(info.loras)
    ]
    return json_response(body)


async def change(services: Services, request: ApiRequest) -> Response:
    """Replace those scales. Requests that run, or wait for a slot, keep theirs."""
    info = _info(services)
    if services.settings.engine.adapters.apply_loras:
        raise not_supported("The scales of this server are fixed: start it with --lora-init-without-apply")
    services.adapters = scales(await read(request, list[LoraScale]), len(info.loras), "id")
    return json_response({"success": True})


def _info(services: Services) -> ModelInfo:
    engine, _ = text_side(services)
    if not engine.info.loras:
        raise not_supported("No LoRA adapter is loaded: start the server with --lora")
    return engine.info
