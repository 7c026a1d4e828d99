"""POST /v1/images/generations, /v1/images/edits and /v1/images/variations."""

import attrs

from api.decode import read
from api.errors import bad_request, not_supported
from api.http import ApiRequest, Response, json_response
from api.images.check import check_sent
from api.images.fields import GenerationFields, ImageFields
from api.images.job import ImageJob, build_image_job, image_side
from api.images.openai_render import OpenAIImageRenderer
from api.images.pictures import Edit, read_edit
from api.images.render import ImageStreamRenderer, encoded, whole
from api.images.run import ImageRun
from api.images.stream import ImageEventBody, ImageRenderer
from api.sse import HEADERS
from engine.image.events import ImageDone, ImagesFinished
from llamabox.services import Services


async def generations(services: Services, request: ApiRequest) -> Response:
    """Images from a prompt."""
    image_side(services)
    fields = await read(request, GenerationFields)
    for name in ("image", "mask", "control"):
        if getattr(fields, name):
            raise bad_request(f"{name}: it belongs to /v1/images/edits", name)
    job = build_image_job(services, request, fields)
    return await _answer(services, request, fields, job, "image_generation")


async def edits(services: Services, request: ApiRequest) -> Response:
    """Images from an image and a prompt."""
    image_side(services)
    return await _edited(services, request, await read_edit(request))


async def variations(services: Services, request: ApiRequest) -> Response:
    """Images from an image: an edit that needs no prompt."""
    image_side(services)
    return await _edited(services, request, await read_edit(request, prompt=""))


async def _edited(services: Services, request: ApiRequest, edit: Edit) -> Response:
    engine = image_side(services)
    job = build_image_job(services, request, edit.fields)
    params = job.request.params
    size, codec = (params.width, params.height), services.image_codec
    if edit.control is not None and not (engine.info.has_control_net or engine.info.kind.takes_control):
        raise not_supported("This server has no ControlNet: start it with --image-control-net-model", "control")
    params = attrs.evolve(
        params,
        init_image=await codec.decode_image(edit.image, "image", size),
        mask=await codec.decode_mask(edit.mask, "mask", size, edit.image) if edit.mask is not None else None,
        control_image=(await codec.decode_image(edit.control, "control", size) if edit.control is not None else None),
    )
    canny = job.request.canny
    if edit.fields.control_canny is None and edit.control is not None:
        canny = services.settings.images.control_canny
    job = attrs.evolve(job, request=attrs.evolve(job.request, params=params, canny=canny))
    return await _answer(services, request, edit.fields, job, "image_edit")


async def _answer(services: Services, request: ApiRequest, fields: ImageFields, job: ImageJob, events: str) -> Response:
    """``events``: what OpenAI's stream events are called by, for who asks for them.

    Raises ApiError while there is still a status to set. Cancellation (the client left) stops the image.
    """
    engine = image_side(services)
    check_sent(job.request, fields, engine.info)
    run = ImageRun(services, engine, job.request)
    run.start(request.nursery)
    if job.streaming:
        body = ImageEventBody(run, _renderer(services, job, events))
        await body.open()
        return Response(body, headers=HEADERS)
    images: list[str] = []
    while not isinstance(event := await run.receive(), ImagesFinished):
        if isinstance(event, ImageDone):
            images.append(await encoded(services.image_codec, job, event))
    return json_response(whole(job, images, event.timings))


def _renderer(services: Services, job: ImageJob, events: str) -> ImageRenderer:
    if job.partial_images is None:
        return ImageStreamRenderer(job, services.image_codec)
    return OpenAIImageRenderer(job, services.image_codec, events)
