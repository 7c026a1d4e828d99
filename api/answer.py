"""Runs a job and answers in one of the two ways: event by event, or as a whole."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from api.figures import token_rate
from api.gate import text_side
from api.generation import Choice, Generation, collect
from api.http import ApiRequest, Response, json_response
from api.job import Job
from api.rate import RESPONSE_HEADER
from api.sse import HEADERS, PING_SECONDS, EventStream, StreamRenderer
from llamabox.services import Services


async def answer(
    services: Services,
    request: ApiRequest,
    job: Job,
    stream: Callable[[], StreamRenderer],
    whole: Callable[[Sequence[Choice]], Any],
) -> Response:
    """The response to a job whose choices are plain text. Raises and ends as ``respond`` does."""

    async def reply(generation: Generation) -> Any:
        return whole(await collect(generation))

    return await respond(services, request, job, lambda _: stream(), reply)


async def respond(
    services: Services,
    request: ApiRequest,
    job: Job,
    stream: Callable[[Generation], StreamRenderer],
    reply: Callable[[Generation], Awaitable[Any]],
) -> Response:
    """The response to ``job``; ``reply`` reads it to its end. Raises ApiError while there is still a status to set.

    Cancellation (the client left) ends the generation: it runs in the request's nursery.
    """
    engine, _ = text_side(services)
    generation = Generation(services, engine, job)
    generation.start(request.nursery, PING_SECONDS if job.fields.streaming else math.inf)
    request.tokens = generation.tokens
    if not job.fields.streaming:
        response = json_response(await reply(generation))
        response.headers.update(_rate(generation))
        return response
    events = EventStream(generation, stream(generation))
    await events.open()
    request.trailers = lambda: _rate(generation)
    return Response(events, headers=HEADERS)


def _rate(generation: Generation) -> dict[str, str]:
    return {RESPONSE_HEADER: f"{token_rate(generation.timings):.3f}"}
