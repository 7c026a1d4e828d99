"""Runs a chat job and answers in one of the two ways, for every API that has turns."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from api.answer import respond
from api.generation import Generation
from api.http import ApiRequest, Response
from api.job import Job
from api.turn.model import Turn, TurnRenderer
from api.turn.reading import TurnReader
from api.turn.stream import TurnStream
from api.turn.whole import read_turns
from llamabox.chat.ask import ChatPlan
from llamabox.services import Services


async def answer_turns(
    services: Services,
    request: ApiRequest,
    job: Job,
    plan: ChatPlan,
    renderer: Callable[[], TurnRenderer],
    whole: Callable[[Sequence[Turn]], Any],
    *,
    custom: Collection[str] = (),
    reasoning_in_content: bool = False,
) -> Response:
    """The response to ``job``, which was built from ``plan``; ``custom``: see ``TurnReader``.

    Raises ApiError while there is still a status to set. Cancellation (the client left) ends the generation: it runs in
    the request's nursery.
    """
    readers = [
        TurnReader(plan.parser(), stop=job.stop, custom=custom, reasoning_in_content=reasoning_in_content)
        for _ in job.requests
    ]

    def stream(generation: Generation) -> TurnStream:
        return TurnStream(readers, renderer(), generation.leave)

    async def reply(generation: Generation) -> Any:
        return whole(await read_turns(generation, readers))

    return await respond(services, request, job, stream, reply)
