"""POST /v1/responses, and what is asked about such a request without an answer."""

import secrets
from typing import Final

import attrs

from api.ask import Asked
from api.decode import read
from api.errors import not_supported
from api.gate import model_name, text_side
from api.guidance import Guidance, blaming
from api.http import ApiRequest, Response, json_response
from api.job import build_job
from api.modalities import Modalities
from api.prompt_forms import TokenizedPrompt
from api.responses.ask import responses_ask
from api.responses.keep import items_of, keeping, last_turn, resolved
from api.responses.namespaces import by_name
from api.responses.reply import Reply, settings, whole_response
from api.responses.shapes import ResponsesFields
from api.responses.stream import ResponsesStream
from api.turn.answer import answer_turns
from llamabox.chat.ask import ChatPlan
from llamabox.response_store import Turn
from llamabox.services import Services

_NO_COMPACTION: Final = (
    "This route replaces a conversation by a summary that only the server can read; this server makes none. "
    "Ask for a summary with POST /v1/responses and go on from its text."
)


@attrs.frozen
class _Read:
    """A request that has been understood, and its prompt."""

    fields: ResponsesFields
    before: Turn | None
    asked: Asked
    plan: ChatPlan


async def create(services: Services, request: ApiRequest) -> Response:
    """One answer to a conversation, which may go on from a kept one."""
    given = await _read(services, request)
    fields, asked, plan = given.fields, given.asked, given.plan
    keep = keeping(services.responses, fields, given.before)
    job = await build_job(
        services,
        request,
        fields,
        [TokenizedPrompt(plan.tokens, plan.text, plan.media)],
        prefix="resp",
        logprobs=fields.wants_logprobs,
        n_probs=fields.top_logprobs,
        guidance=Guidance.of_plan(plan, asked.param),
    )
    names = by_name(fields.tools)
    reply = Reply(
        uid=secrets.token_hex(16),  # not the request's, which /slots shows: who knows it may read what is kept
        created=job.created,
        model=job.model,
        settings=settings(fields, asked.ask, job.requests[0].sampling),
        logprobs=fields.wants_logprobs,
        sealed_reasoning=fields.wants_sealed_reasoning,
        names=names,
    )
    return await answer_turns(
        services,
        request,
        job,
        plan,
        lambda: ResponsesStream(reply, keep),
        lambda turns: keep(whole_response(reply, turns[0])),
        custom={name for name, tool in names.items() if tool.is_custom},
    )


async def input_tokens(services: Services, request: ApiRequest) -> Response:
    """How long the prompt of a request is. Nothing is generated, nothing is kept."""
    given = await _read(services, request)
    model_name(services, given.fields.model)
    return json_response({"object": "response.input_tokens", "input_tokens": given.plan.n_tokens})


async def compact(services: Services, request: ApiRequest) -> Response:
    """Refused."""
    raise not_supported(_NO_COMPACTION)


async def _read(services: Services, request: ApiRequest) -> _Read:
    engine, prompts = text_side(services)
    fields = await read(request, ResponsesFields)
    fields = attrs.evolve(fields, input=resolved(services.responses, fields.input))
    before = last_turn(services.responses, fields.previous_response_id)
    asked = responses_ask(fields, services.settings.defaults, Modalities.of(engine.info), items_of(before))
    with blaming(asked.param):
        plan = await prompts.plan(asked.ask)
    return _Read(fields, before, asked, plan)
